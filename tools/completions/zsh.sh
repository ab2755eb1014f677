#compdef manactl
# Completion of manactl(8) for zsh.
# Made by `make completions` from the command tree: change that, not this file.

@TREE@

# Offers WORD MEANING pairs, but for the words in `given`: _manactl_offer TAG TITLE [WORD MEANING]...
_manactl_offer() {
    local tag=$1 title=$2 separator word meaning
    local -a found shown expl
    local -i width=0 described=0
    shift 2
    zstyle -s ":completion:${curcontext}:" list-separator separator || separator=--
    for word meaning in "$@"; do
        ((${#word} > width)) && width=${#word}
        [[ -n $meaning ]] && described=1
    done
    for word meaning in "$@"; do
        ((${given[(Ie)$word]})) && continue
        found+=("$word")
        meaning="${(r:width:)word}${meaning:+ $separator $meaning}"
        shown+=("${meaning[1,COLUMNS - 1]}")
    done
    if ((described)); then
        _wanted -V "$tag" expl "$title" compadd -l -d shown -a found
    else
        _wanted -V "$tag" expl "$title" compadd -a found
    fi
}

# `given`: the values that OPTION has on the line already.
_manactl_given() {
    local -i i
    for ((i = 2; i < line_current; i++)); do
        case ${line_words[i]} in
            $1) ((i + 1 < line_current)) && given+=("${(Q)line_words[i + 1]}") ;;
            $1=*) given+=("${(Q)line_words[i]#*=}") ;;
        esac
    done
}

# What only the program knows: _manactl_ports [OPTION]. The words go as arguments, unquoted.
_manactl_ports() {
    # No name that is offered starts like an option.
    [[ -z $1 && $PREFIX == -* ]] && return 1
    local program=${(Q)line_words[1]} row
    local -a before=("${(@Q)line_words[2,line_current - 1]}") pairs
    [[ $program == '~/'* ]] && program=$HOME/${program#'~/'}
    (($+commands[$program])) || [[ -x $program ]] || program=manactl
    # --option=value: the program gets two words.
    [[ -n $1 && $before[-1] != $1 ]] && before+=("$1")
    for row in "${(@f)$(_MANACTL_COMPLETE=lines_complete $program "$before[@]" "${(Q)PREFIX}" 2>/dev/null)}"; do
        [[ -n $row ]] && pairs+=("${row%%$'\t'*}" "${row#*$'\t'}")
    done
    _manactl_offer ports port "$pairs[@]"
}

_manactl() {
    local curcontext=$curcontext context state state_descr line
    typeset -A opt_args
    # _arguments narrows words and CURRENT to those of the subcommand; the program gets all.
    local -a line_words=("${(@)words}") given
    local -i line_current=CURRENT ret=1
    local -a program
    _manactl_program
    # Not in a function of its own: the end of that would widen them again.
    _arguments -C -s -S : "$program[@]" && ret=0
    local command=$words[1]
    if [[ $state == words ]] && (($+functions[_manactl_$command])); then
        curcontext="${curcontext%:*:*}:manactl-$command:"
        _manactl_$command && ret=0
    fi
    return ret
}

if [[ $funcstack[1] == _manactl ]]; then
    _manactl "$@"
else
    compdef _manactl manactl
fi
