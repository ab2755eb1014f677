# Completion of manactl(8) for bash 4.4 or newer, with or without the bash-completion package.
# Made by `make completions` from the command tree: change that, not this file.

# The table. What its lines do depends on `visit`: find an option, or collect candidates.
#   _manactl_option many|once|hidden KIND HELP NAME...     KIND: flag, ports, words, files, dirs, any
#   _manactl_argument many|once KIND
#   _manactl_word OPTION WORD MEANING                      OPTION "": of the argument
#   _manactl_command NAME HELP
@TREE@

_manactl_option() {
    local offered=$1 value=$2 help=$3
    shift 3
    case $visit in
        find)
            local each
            for each; do
                [[ $each == "$name" ]] && option=$1 kind=$value
            done ;;
        options)
            [[ $offered == hidden ]] && return
            if [[ $offered == once ]]; then
                local seen
                for seen in "${given[@]}"; do
                    [[ $seen == "$1" ]] && return
                done
            fi
            local each
            for each; do
                _manactl_candidate "$each" "$help"
            done ;;
    esac
}

_manactl_argument() {
    [[ $visit == argument && ($1 == many || ! $arguments) ]] && kind=$2
    return 0
}

_manactl_word() {
    [[ $visit == words && $1 == "$option" ]] || return 0
    local seen
    for seen in "${used[@]}"; do
        [[ $seen == "$option=$2" ]] && return
    done
    _manactl_candidate "$2" "$3"
}

_manactl_command() {
    [[ $visit == commands ]] && _manactl_candidate "$1" "$2"
    return 0
}

_manactl_candidate() {
    [[ $before$1 == "$current"* ]] || return 0
    values+=("$before$1")
    meanings+=("$2")
}

# What the shell will make of the line up to the cursor: `words`, and of the last of them, which is
# `current`, in which quotes it ends (`quote`) and how many characters of it readline leaves alone
# (`fixed`): those up to the last of COMP_WORDBREAKS, or to the open quote. Fails when the last word
# depends on an expansion.
_manactl_split() {
    local line=$1 word= begun= live= char next outer=0 i
    words=() quote= fixed=0
    for ((i = 0; i < ${#line}; i++)); do
        char=${line:i:1}
        case ${quote:--}$char in
            "''" | '""')
                quote= fixed=$outer ;;
            "'"*)
                word+=$char ;;
            '"\')
                next=${line:++i:1}
                [[ $next == [\$\`\"\\] ]] || word+=\\
                word+=$next ;;
            '"$' | '"`')
                live=1 word+=$char ;;
            '"'*)
                word+=$char ;;
            "-'" | '-"')
                quote=$char begun=1 outer=$fixed fixed=${#word} ;;
            '-\')
                word+=${line:++i:1} begun=1 ;;
            '- ' | -$'\t' | -$'\n')
                [[ $begun ]] && words+=("$word")
                word= begun= live= fixed=0 ;;
            *)
                word+=$char begun=1
                [[ $char == [\$\`] ]] && live=1
                [[ $COMP_WORDBREAKS == *"$char"* ]] && fixed=${#word} ;;
        esac
    done
    words+=("$word")
    current=$word
    [[ ! $live ]]
}

# `shown`: the part of a candidate that is to be inserted, quoted like what it continues.
_manactl_quoted() {
    local rest=${1:fixed} double='"' single="'"
    case $quote in
        '')
            printf -v shown %q "$rest"
            [[ $rest ]] || shown= ;;
        "'")
            shown=${rest//$single/$single\\$single$single} ;;
        '"')
            rest=${rest//\\/\\\\}
            rest=${rest//\$/\\\$}
            rest=${rest//\`/\\\`}
            rest=${rest//$double/\\$double}
            # Nothing but single quotes keeps history from expanding it.
            shown=${rest//!/$double$single!$single$double} ;;
    esac
    # Readline closes the quotes itself, unless it takes the last character for the closing one.
    [[ $quote && $shown == *"$quote" ]] && shown+=$quote
    return 0
}

# What only the program knows. The words go as arguments, so that nothing has to be quoted.
_manactl_ask() {
    local program=${words[0]} word meaning answer
    local -a line=("${words[@]:1:${#words[@]}-2}")
    [[ $program == '~/'* ]] && program=$HOME/${program:2}
    type -P -- "$program" >/dev/null || program=manactl
    # --option=value: the program gets two words.
    [[ $before ]] && line+=("${before%=}")
    answer=$(_MANACTL_COMPLETE=lines_complete "$program" "${line[@]}" "${current#"$before"}" 2>/dev/null)
    while IFS=$'\t' read -r word meaning; do
        [[ $word ]] && _manactl_candidate "$word" "$meaning"
    done <<<"$answer"
}

_manactl() {
    local IFS=$' \t\n' current quote fixed shown visit name= option= kind= before= command= ended= arguments= i
    local -a words=() given=() used=() values=() meanings=()
    COMPREPLY=()
    _manactl_split "${COMP_LINE:0:COMP_POINT}" || return 0

    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        if [[ $option ]]; then
            used+=("$option=${words[i]}")
            option=
        elif [[ ! $ended && ${words[i]} == -- ]]; then
            ended=1
        elif [[ ! $ended && ${words[i]} == -?* ]]; then
            name=${words[i]%%=*} kind= visit=find
            _manactl_tree "$command"
            given+=("$option")
            if [[ $kind == flag || ! $kind ]]; then
                option=
            elif [[ ${words[i]} == *=* ]]; then
                used+=("$option=${words[i]#*=}")
                option=
            fi
        elif [[ ! $command ]]; then
            command=${words[i]}
        else
            arguments=1
        fi
    done

    if [[ $option ]]; then
        name=$option visit=find
        _manactl_tree "$command"
    elif [[ ! $ended && $current == --*=* ]]; then
        name=${current%%=*} kind= visit=find
        _manactl_tree "$command"
        before=$name=
    elif [[ ! $ended && $current == -* ]]; then
        kind=options
    elif [[ ! $command ]]; then
        kind=commands
    else
        kind= visit=argument
        _manactl_tree "$command"
        [[ $kind || $ended ]] || kind=options
    fi

    case $kind in
        options | commands | words)
            visit=$kind
            _manactl_tree "$command" ;;
        ports)
            _manactl_ask ;;
        files)
            compopt -o default
            return ;;
        dirs)
            compopt -o dirnames
            return ;;
    esac
    compopt -o nosort
    _manactl_reply
}

# With descriptions only where readline lists: what several candidates have in common, and that is
# all it ever inserts then, is the same with descriptions after them.
_manactl_reply() {
    local i width=0 room
    for ((i = 0; i < ${#values[@]}; i++)); do
        _manactl_quoted "${values[i]}"
        COMPREPLY[i]=$shown
        ((${#shown} > width)) && width=${#shown}
    done
    # ? lists, ! and @ list what is ambiguous (show-all-if-ambiguous, show-all-if-unmodified).
    case ${#values[@]},$COMP_TYPE in
        0,* | 1,*) return ;;
        *,63 | *,33 | *,64) ;;
        *) return ;;
    esac
    [[ ${meanings[*]} == *[![:space:]]* ]] || return 0
    # At least half of a line each, so that they stand below each other.
    room=$((${COLUMNS:-80} - width - 5))
    ((room > 10)) || return 0
    for ((i = 0; i < ${#values[@]}; i++)); do
        printf -v 'COMPREPLY[i]' '%-*s%s%s' "$width" "${COMPREPLY[i]}" \
            "${meanings[i]:+ -- }" "${meanings[i]:0:room}"
        printf -v 'COMPREPLY[i]' '%-*s' $((${COLUMNS:-80} / 2 + 1)) "${COMPREPLY[i]}"
    done
}

complete -F _manactl manactl
