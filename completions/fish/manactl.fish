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
            case --state-dir
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
function __manactl_claim_allow
    printf '%s\t%s\n' \
        'ssh-session' 'your own SSH session runs over the port, or somebody\'s' \
        'default-route' 'a default route goes through the port' \
        'last-port' 'nothing else here is up with carrier and a global address' \
        'tcp-established' 'live TCP connections use the port\'s addresses' \
        'storage' 'storage is used over the port' \
        'azure-fabric' 'the way to Azure\'s wire server or metadata service goes through the port' \
        'rdma-users' 'RC or UD queue pairs of users exist on the RDMA device' \
        'upper' 'other devices are stacked on the port' \
        'xdp' 'an XDP program is attached to the port' \
        'packet-sockets' 'programs listen to the port by packet sockets' \
        'manager' 'a network manager controls the port, and cannot be kept off it' \
        'sockets' 'UDP sockets or SCTP associations use the port' \
        'forwarding' 'connections of others are forwarded through the port'
end

function __manactl_claim_synthetic
    printf '%s\t%s\n' \
        'down' '' \
        'keep' '' \
        'uio' ''
end

function __manactl_explain_argument
    printf '%s\t%s\n' \
        'dpdk-tx-queues' 'DPDK cannot create its send queue: it does not get the port\'s vport' \
        'dpdk-rx-queues' 'DPDK has the vport, but cannot create its receive side' \
        'dpdk-hugepages' 'DPDK finds no huge pages' \
        'dpdk-no-port' 'DPDK finds no port at all' \
        'dpdk-promiscuous' 'harmless: MANA has no promiscuous mode to switch on' \
        'parent-domain' 'a raw queue pair was asked for without saying on which port' \
        'extern-alloc' 'a raw queue pair was asked for without buffer allocators' \
        'dpdk-mana-probe' 'DPDK found a MANA function, but could not use a port of it' \
        'dpdk-mana-settings' 'the settings of a MANA port in DPDK do not fit' \
        'dpdk-mana-memory' 'DPDK could not get or register memory for a MANA port' \
        'dpdk-mana-packets' 'a packet or a completion of a MANA port in DPDK failed' \
        'dpdk-mana-stop' 'DPDK could not free a part of a MANA port' \
        'dpdk-mana-secondary' 'a secondary DPDK process and its primary do not agree on a MANA port' \
        'dpdk-mana-interrupts' 'receive interrupts of a MANA port in DPDK could not be set up' \
        'dpdk-mana-news' 'no fault: DPDK reports what it does with a MANA port' \
        'dpdk-netvsc-vf' 'no fault: DPDK took the MANA port of a netvsc device, or gave it back' \
        'dpdk-netvsc-vf-failed' 'DPDK did not get the MANA port of a netvsc device' \
        'dpdk-netvsc-channel' 'DPDK and the host do not understand each other on the synthetic channel' \
        'dpdk-netvsc-settings' 'a setting of a netvsc device in DPDK: refused, or not possible' \
        'dpdk-vmbus' 'DPDK cannot use a VMBus device' \
        'dpdk-device-unusable' 'DPDK found the device that was named, but no driver of the program took it' \
        'dpdk-device-gone' 'a device was removed under a running DPDK program, or could not be given back' \
        'dpdk-memory' 'DPDK could not set up its memory: huge pages, or the limit on locked memory' \
        'dpdk-iova' 'DPDK and a device want addresses of different kinds (IOVA)' \
        'dpdk-lock' 'another DPDK program runs with the same file prefix' \
        'dpdk-init' 'DPDK stopped before it looked at any device' \
        'dpdk-start-news' 'no fault: DPDK reports how it starts' \
        'dpdk-uio-vfio' 'DPDK works on a device of uio or vfio, which a MANA port never is' \
        'dpdk-mlx5' 'a line of the mlx5 driver: another NIC\'s, not MANA\'s' \
        'dpdk-port-owned' 'a DPDK port belongs to another part of the program' \
        'uverbs-open' 'the uverbs device of an RDMA device cannot be opened' \
        'ibv-no-driver' 'libibverbs has no driver for an RDMA device: programs do not see it' \
        'ibv-config' 'libibverbs cannot read which providers there are' \
        'ibv-abi' 'user space and kernel are of different ages: the ABI of verbs does not fit' \
        'ibv-limits' 'libibverbs warns of limits: locked memory, or fork()' \
        'libmana-context' 'libmana could not open the device, or make a protection domain' \
        'libmana-queues' 'libmana could not make or destroy a queue pair or queue' \
        'libmana-post' 'libmana could not post a request to a queue pair' \
        'libmana-news' 'no fault: libmana reports what it does' \
        'open-refused' 'the netdev cannot be set up: the driver could not get the vport' \
        'netdev-missing' 'there is no netdev of that name in this network namespace' \
        'netvsc-vf-not-opened' 'a netvsc interface came up without its fast path' \
        'ethtool-busy' 'the number of channels cannot be changed now' \
        'mtu-bug' 'kernel bug: MTU or rings of a claimed port were changed' \
        'ethtool-refused' 'ethtool asked for something that the driver of the netdev does not have, or refuses' \
        'rdma-res-qp' '`rdma resource show qp` does not work with MANA' \
        'rdma-link-down' 'the RDMA port reads DOWN while a program uses it' \
        'pd-of-another-port' 'one protection domain was used for two ports' \
        'uverbs-credentials' 'a program changed its identity after opening the RDMA device' \
        'device-silent' 'the NIC did not answer the driver' \
        'device-reset' 'the NIC is being reset or serviced' \
        'vport-given' 'no fault: the vport has got an owner' \
        'data-path' 'a netvsc interface changed between fast and slow path' \
        'vport-queues' 'the port has its vport, but its queues could not be made' \
        'queue-memory' 'the driver did not get the memory for queues or buffers' \
        'vport-close' 'the driver could not free a part of a port in the device' \
        'packet-errors' 'single packets were dropped, or a queue of the port has stalled' \
        'port-settings' 'a setting of the port was refused, or could not be applied' \
        'port-probe' 'a port of the function could not be made' \
        'device-setup' 'the driver could not set the function up' \
        'device-refused' 'the device refused a request of the driver' \
        'driver-news' 'no fault: the driver reports what it has done' \
        'raw-qp-refused' 'mana_ib did not make a raw queue pair' \
        'rss-qp-refused' 'mana_ib did not make the receive side of a raw queue pair' \
        'rdma-memory' 'mana_ib could not make a completion queue, or use a program\'s memory' \
        'rdma-setup' 'mana_ib could not set up an RDMA device of the function' \
        'rdma-qp-types' 'a queue pair that is not a raw one: refused, or not known to mana_ib' \
        'rdma-debug' 'no fault: what mana_ib did, written by dynamic debugging' \
        'rdma-netns-shared' 'an RDMA device cannot be moved: RDMA devices belong to all network namespaces here' \
        'rdma-netns-exclusive' 'an RDMA device is, or should be, in another network namespace' \
        'rdma-cm' 'the RDMA connection manager: an address, route or peer, not the vport' \
        'ipv6-autojoin' 'an IPv6 address with `autojoin`: the multicast group is joined already' \
        'netvsc-vf-joined' 'no fault: a MANA port joined its netvsc interface, or left it' \
        'netvsc-vf-alone' 'a MANA port and its netvsc interface did not come together' \
        'netvsc-netns-hang' 'kernel bug: a VF appeared while its netvsc interface was in another namespace' \
        'netvsc-settings' 'a setting of a netvsc interface was refused or could not be restored' \
        'netvsc-channel' 'the synthetic channel of a netvsc interface: the host answered wrong, or not' \
        'netvsc-news' 'no fault: hv_netvsc reports what it does' \
        'EPERM' '1, Operation not permitted: a capability is missing' \
        'EAGAIN' '11, Resource temporarily unavailable: a limit, or a queue pair in the making' \
        'ENOMEM' '12, Cannot allocate memory: usually the limit on locked memory' \
        'EACCES' '13, Permission denied: the uverbs device may not be opened or written' \
        'EBUSY' '16, Device or resource busy: the vport has another owner' \
        'ENODEV' '19, No such device: up to Linux 6.18: the vport has another owner' \
        'EINVAL' '22, Invalid argument: the call is wrong, not the port\'s state' \
        'EPROTO' '71, Protocol error: the device answered what the driver did not expect' \
        'EOPNOTSUPP' '95, Operation not supported: mana_ib does not offer this' \
        'ENETDOWN' '100, Network is down: the netdev under a socket was set down' \
        'ETIMEDOUT' '110, Connection timed out: the NIC did not answer the driver' \
        'done' 'exit 0: done, or already so' \
        'bug' 'exit 1: a fault of manactl itself' \
        'usage' 'exit 2: the command line is wrong' \
        'refused' 'exit 3: a guard refused; nothing was touched' \
        'rolled-back' 'exit 4: it failed, and everything is restored' \
        'not-restored' 'exit 5: not (fully) restored; the journal stays open' \
        'busy' 'exit 6: the port is in use or in transition' \
        'denied' 'exit 7: a privilege is missing; nothing was touched' \
        'unsupported' 'exit 8: not supported here' \
        'interrupted' 'exit 130: interrupted before anything was changed' \
        'pipe' 'exit 141: the reader of the output has gone' \
        'holder' 'a live raw queue pair has the port (exit 6)' \
        'locked' 'another manactl is at work on the same PCI function (exit 6)' \
        'claimed' 'a claim that ends by itself needs its ports for itself (exit 6)' \
        'guardian' 'the process that is to end the claim is missing (exit 4)' \
        'expired' 'the claim was not confirmed in time and was released (exit 4)' \
        'persist' 'a port is still left down at boot (exit 5)' \
        'state-dir' 'the state directory cannot be used (exit 3)' \
        'residue' 'not everything could be restored (exit 5)' \
        'router-advertisement' 'a router has to restore it; nothing is wrong (exit 0)' \
        'lost' 'only its maker can put it back; the release is complete (exit 0)' \
        'settling' 'the port is up, and its bridge or bond uses it a while later (exit 0)' \
        'no-netdev' 'the claimed port has no netdev here (exit 5)' \
        'journal' 'a journal is corrupt, not trusted, or cannot be closed (exit 5)' \
        'interrupted-claim' 'an earlier claim or release was interrupted (exit 5)' \
        'claim-stands' 'a claim that stands has no residue to accept (exit 3)' \
        'ssh-session' 'your own SSH session runs over the port, or somebody\'s' \
        'default-route' 'a default route goes through the port' \
        'last-port' 'nothing else here is up with carrier and a global address' \
        'tcp-established' 'live TCP connections use the port\'s addresses' \
        'storage' 'storage is used over the port' \
        'azure-fabric' 'the way to Azure\'s wire server or metadata service goes through the port' \
        'rdma-users' 'RC or UD queue pairs of users exist on the RDMA device' \
        'upper' 'other devices are stacked on the port' \
        'xdp' 'an XDP program is attached to the port' \
        'packet-sockets' 'programs listen to the port by packet sockets' \
        'manager' 'a network manager controls the port, and cannot be kept off it' \
        'sockets' 'UDP sockets or SCTP associations use the port' \
        'forwarding' 'connections of others are forwarded through the port' \
        'foreign-netns' 'the port, or its claim, belongs to another network namespace' \
        'in-reset' 'the device is being reset or set up' \
        'kernel-bug' 'a known bug of this kernel would be triggered, or has been' \
        'rdma-elsewhere' 'an RDMA device of the port is in another network namespace' \
        'ethernet' 'owner: the netdev has the vport' \
        'raw-qp' 'owner: a raw queue pair of a process has the vport' \
        'free' 'owner: the vport has no owner' \
        'unknown' 'owner: the evidence does not decide; treat it as taken' \
        'proven' 'certainty: the kernel\'s rules leave no other answer' \
        'inferred' 'certainty: by what programs usually do, not by a rule of the kernel' \
        'in-transition' 'the driver is opening, closing or resetting the port' \
        'elsewhere' 'the netdev is not in this network namespace' \
        'no-rdma-driver' 'no RDMA driver is bound to the function' \
        'drift' 'a claimed port is not as its claim left it (claim: exit 6)' \
        'history' 'the journal is from before the last boot' \
        'missing' 'something could not be read' \
        'driver-busy' 'a process waits in the driver and holds the network lock (RTNL)'
end

function __manactl_help_argument
    printf '%s\t%s\n' \
        'claim' '' \
        'confirm' '' \
        'doctor' '' \
        'explain' '' \
        'help' '' \
        'history' '' \
        'hold' '' \
        'recover' '' \
        'release' '' \
        'status' ''
end

function __manactl_status_format
    printf '%s\t%s\n' \
        'prometheus' ''
end

function __manactl_status_color
    printf '%s\t%s\n' \
        'auto' '' \
        'always' '' \
        'never' ''
end

complete -c manactl -n '__manactl_at ""' -a claim -d 'Hand ports to userspace RDMA.'
complete -c manactl -n '__manactl_at ""' -a confirm -d 'Keep a claim that would be released automatically.'
complete -c manactl -n '__manactl_at ""' -a doctor -d 'Is this machine fit to hand a port to RDMA?'
complete -c manactl -n '__manactl_at ""' -a explain -d 'Explain a message, error number or code, and what to do.'
complete -c manactl -n '__manactl_at ""' -a help -d 'Open the manual of a command.'
complete -c manactl -n '__manactl_at ""' -a history -d 'Show which claims have ended: whose, when, and how.'
complete -c manactl -n '__manactl_at ""' -a hold -d 'Keep claimed ports down, whoever sets them up.'
complete -c manactl -n '__manactl_at ""' -a recover -d 'Undo an interrupted claim, finish an interrupted release.'
complete -c manactl -n '__manactl_at ""' -a release -d 'Restore claimed ports as they were.'
complete -c manactl -n '__manactl_at ""' -a status -d 'Show who owns each port, and how that is known.'

complete -c manactl -n '__manactl_at ""; and not __manactl_given --version' -l version -d 'Show the version and exit.'
complete -c manactl -n '__manactl_at ""; and not __manactl_given --debug' -l debug -d 'Show the traceback of a bug.'
complete -c manactl -n '__manactl_at ""; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'

complete -c manactl -n '__manactl_at "claim"' -l raw-qp -x -k -a '(__manactl_ports --raw-qp)' -d 'A port to hand over.'
complete -c manactl -n '__manactl_at "claim"' -l allow -x -k -a '(__manactl_claim_allow | __manactl_unused --allow)' -d 'Accept what this guard refuses.'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given --dry-run' -l dry-run -d 'Show the plan, or the refusals, and stop.'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given --value --wait' -l wait -x -d 'Wait so long for a vport that is taken, and for another manactl.'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given --value --confirm-within' -l confirm-within -x -d 'Release it automatically then, unless `manactl confirm` comes before.'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given --value --synthetic' -l synthetic -x -k -a '(__manactl_claim_synthetic)' -d 'Set the netvsc interface of a pair down, keep it, or give it to uio. [default: down]'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given --persist' -l persist -d 'Have the network manager leave the ports down at boot, too, until release.'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given --value --report' -l report -r -F -d 'Write what happened to FILE, as JSON; only with a COMMAND.'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given -v --verbose' -s v -l verbose -d 'Show the whole plan before it is executed.'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given --json' -l json -d 'Print one JSON document.'
complete -c manactl -n '__manactl_at "claim"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'

complete -c manactl -n '__manactl_at "confirm"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'
complete -c manactl -n '__manactl_at "confirm"; and __manactl_argument' -k -a '(__manactl_ports)'

complete -c manactl -n '__manactl_at "doctor"; and not __manactl_given --facts' -l facts -d 'Show what this kernel does beside what the lab\'s kernels do; with PORT also by making a raw QP on it and destroying it at once.'
complete -c manactl -n '__manactl_at "doctor"; and not __manactl_given --json' -l json -d 'Print one JSON document.'
complete -c manactl -n '__manactl_at "doctor"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'
complete -c manactl -n '__manactl_at "doctor"; and __manactl_argument' -k -a '(__manactl_ports)'

complete -c manactl -n '__manactl_at "explain"; and not __manactl_given --json' -l json -d 'Print one JSON document.'
complete -c manactl -n '__manactl_at "explain"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'
complete -c manactl -n '__manactl_at "explain"; and __manactl_argument' -k -a '(__manactl_explain_argument)'

complete -c manactl -n '__manactl_at "help"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'
complete -c manactl -n '__manactl_at "help"; and __manactl_argument; and __manactl_first' -k -a '(__manactl_help_argument)'

complete -c manactl -n '__manactl_at "history"; and not __manactl_given --json' -l json -d 'Print one JSON document.'
complete -c manactl -n '__manactl_at "history"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'
complete -c manactl -n '__manactl_at "history"; and __manactl_argument' -k -a '(__manactl_ports)'

complete -c manactl -n '__manactl_at "hold"; and not __manactl_given --json' -l json -d 'Print one JSON document a line.'
complete -c manactl -n '__manactl_at "hold"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'
complete -c manactl -n '__manactl_at "hold"; and __manactl_argument' -k -a '(__manactl_ports)'

complete -c manactl -n '__manactl_at "recover"' -l accept -x -k -a '(__manactl_ports --accept)' -d 'Leave PORT as it is: show what is missing, and close its journal.'
complete -c manactl -n '__manactl_at "recover"; and not __manactl_given --dry-run' -l dry-run -d 'Show what would be done, and stop.'
complete -c manactl -n '__manactl_at "recover"; and not __manactl_given -v --verbose' -s v -l verbose -d 'Show the whole plan before it is carried out.'
complete -c manactl -n '__manactl_at "recover"; and not __manactl_given --json' -l json -d 'Print one JSON document.'
complete -c manactl -n '__manactl_at "recover"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'

complete -c manactl -n '__manactl_at "release"; and not __manactl_given --all' -l all -d 'Release every claimed port.'
complete -c manactl -n '__manactl_at "release"; and not __manactl_given --value --wait' -l wait -x -d 'Wait so long for holders to end, for another manactl, and for STP or LACP to forward.'
complete -c manactl -n '__manactl_at "release"; and not __manactl_given --terminate' -l terminate -d 'Send SIGTERM to the holders, and wait for them.'
complete -c manactl -n '__manactl_at "release"; and not __manactl_given --dry-run' -l dry-run -d 'Show what would be restored, and stop.'
complete -c manactl -n '__manactl_at "release"; and not __manactl_given -v --verbose' -s v -l verbose -d 'Show the whole plan before it is executed.'
complete -c manactl -n '__manactl_at "release"; and not __manactl_given --json' -l json -d 'Print one JSON document.'
complete -c manactl -n '__manactl_at "release"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'
complete -c manactl -n '__manactl_at "release"; and __manactl_argument' -k -a '(__manactl_ports)'

complete -c manactl -n '__manactl_at "status"; and not __manactl_given -v --verbose' -s v -l verbose -d 'Show the evidence and where it came from.'
complete -c manactl -n '__manactl_at "status"; and not __manactl_given --json' -l json -d 'Print one JSON document.'
complete -c manactl -n '__manactl_at "status"; and not __manactl_given --value --format' -l format -x -k -a '(__manactl_status_format)' -d 'Print metrics in the text format of Prometheus.'
complete -c manactl -n '__manactl_at "status"; and not __manactl_given --value --output' -l output -r -F -d 'Write the metrics to FILE, which readers find whole at any time.'
complete -c manactl -n '__manactl_at "status"; and not __manactl_given --watch' -l watch -d 'Show every change, until ^C.'
complete -c manactl -n '__manactl_at "status"; and not __manactl_given --value --color' -l color -x -k -a '(__manactl_status_color)' -d 'Colour on a terminal, always, or never.'
complete -c manactl -n '__manactl_at "status"; and not __manactl_given -h --help' -s h -l help -d 'Show this message and exit.'
complete -c manactl -n '__manactl_at "status"; and __manactl_argument' -k -a '(__manactl_ports)'
