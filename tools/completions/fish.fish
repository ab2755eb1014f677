# Completion of manactl(8) for fish 3.1 or newer.
# Made by `make completions` from the command tree: change that, not this file.

# The words before the one at the cursor, without quotes: the command and then its arguments.
function __manactl_line
    set -l words (commandline -opc)
    printf '%s\n' $words[2..-1]
end

# Whether the subcommand on the line is that one; "": whether one can come now.
function __manactl_at --argument-names wanted
    set -l skip
    for word in (__manactl_line)
        if set -q skip[1]
            set skip
            continue
        end
        switch $word
            case @WITH_VALUE@
                set skip 1
            case '-*'
            case '*'
                test "$word" = "$wanted"
                return
        end
    end
    test -z "$wanted"; and not set -q skip[1]
end

# Whether an option is on the line: __manactl_given [--value] NAME... With --value the last word
# does not count, for then it is its value that is being completed.
function __manactl_given
    set -l words (__manactl_line)
    if test "$argv[1]" = --value
        set -e argv[1]
        set -e words[-1]
    end
    for word in $words
        test "$word" = --
        and return 1
        contains -- (string replace -r '^(--[^=]*)=.*' '$1' -- $word) $argv
        and return 0
    end
    return 1
end

# Whether an argument can come now, and no option.
function __manactl_argument
    contains -- -- (__manactl_line)
    or not string match -q -- '-*' (commandline -ct)
end

# Whether no argument of the subcommand is on the line yet.
function __manactl_first
    set -l words
    for word in (__manactl_line)
        string match -q -- '-*' $word
        or set -a words $word
    end
    test (count $words) -le 1
end

# Lets pass the words that OPTION does not have on the line already: ... | __manactl_unused OPTION
function __manactl_unused --argument-names option
    set -l given
    set -l last
    for word in (__manactl_line)
        test "$last" = "$option"
        and set -a given $word
        string match -q -- "$option=*" $word
        and set -a given (string replace -- "$option=" '' $word)
        set last $word
    end
    while read -l row
        contains -- (string split --fields 1 \t -- $row) $given
        or echo $row
    end
end

# What only the program knows: __manactl_ports [OPTION].
function __manactl_ports --argument-names option
    set -l words (commandline -opc)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    type -q -- $program
    or set program manactl
    set -e words[1]
    set -l start (commandline -ct)
    if test -n "$option"; and string match -q -- "$option=*" $start
        # --option=value: the program gets two words.
        set start (string replace -- "$option=" '' $start)
        set -a words $option
    end
    # An open quote is nothing that can be unquoted.
    set -l unquoted (string unescape -- $start)
    or set unquoted (string trim --left --chars '\'"' -- $start)
    env _MANACTL_COMPLETE=lines_complete $program $words "$unquoted" 2>/dev/null
end

complete -c manactl -f
@TREE@
