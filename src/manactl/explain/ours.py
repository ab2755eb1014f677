"""manactl's own exit codes and the code words of its error documents."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic

_AGAIN = Step("Then:", "manactl recover")
_ACCEPT = Step("When it cannot be fixed, leave the port as it is:",
               "manactl recover --accept PORT")  # fmt: skip
_STATUS = Step("What is there now:", "manactl status -v")


def _topic(
    name: str, title: str, means: str, origin: str, *,
    exit_code: int | None = None, check: tuple[Step, ...] = (_STATUS,),
    remedy: tuple[Step, ...] = (), forms: tuple[str, ...] = (), see: tuple[str, ...] = (),
) -> Topic:  # fmt: skip
    return Topic(
        name, Kind.ERROR, title, means, origin, check, remedy, forms, exit_code=exit_code, see=see
    )


TOPICS = (
    _topic(
        "done", "exit 0: done, or already so",
        "What was asked has been done and checked, or there was nothing to do: a port that is "
        "claimed already, a release with nothing claimed, a `status` on a machine without MANA.",
        "manactl", exit_code=0,
    ),
    _topic(
        "bug", "exit 1: a fault of manactl itself",
        "An unexpected error. What had been begun was undone as far as possible; `manactl status` "
        "shows whether a claim is still open.",
        "manactl", exit_code=1,
        check=(Step("The traceback:", "journalctl -t manactl"),
               Step("Whether something is left to restore:", "manactl status")),
        remedy=(Step("If status shows an interrupted claim:", "manactl recover"),
                Step("Report it with the traceback and:", "manactl status --json")),
    ),
    _topic(
        "usage", "exit 2: the command line is wrong",
        "An unknown command, option or code, or a PORT that names nothing or more than one thing. "
        "Nothing was touched.",
        "manactl", exit_code=2,
        check=(Step("The ports there are:", "manactl status"),
               Step("The manual of a command:", "manactl help claim")),
    ),
    _topic(
        "refused", "exit 3: a guard refused; nothing was touched",
        "Claiming the port would have cost something that you may not want to lose. Each line of "
        "the message begins with the code of a guard; every guard is asked, so the list is "
        "complete. From `manactl doctor`: something has to be fixed before a port can be handed "
        "over.",
        "the guards of `manactl claim`", exit_code=3,
        forms=("refused to claim <any>; nothing was touched",),
        check=(Step("What a claim would do, and why it is refused:",
                    "manactl claim --raw-qp PORT --dry-run"),
               Step("What a guard is about:", "manactl explain GUARD")),
        remedy=(Step("Remove the cause, or accept the loss:",
                     "manactl claim --raw-qp PORT --allow GUARD"),),
    ),
    _topic(
        "rolled-back", "exit 4: it failed, and everything is restored",
        "A step failed or a signal came. What had been done was undone and verified against the "
        "snapshot: the port is as it was before.",
        "manactl", exit_code=4, forms=("Everything is restored and verified",),
        check=(Step("The message's first line says what failed. What the driver says:",
                    "dmesg | grep mana | tail"),),
        remedy=(Step("Fix the cause and try again."),),
    ),
    _topic(
        "not-restored", "exit 5: not (fully) restored; the journal stays open",
        "Something of what was there before is missing. The message lists it line by line, and the "
        "journal under /var/lib/manactl/claims keeps all that is needed to restore it.",
        "manactl", exit_code=5, remedy=(Step("Fix what the message names."), _AGAIN, _ACCEPT),
        see=("residue", "journal", "interrupted-claim"),
    ),
    _topic(
        "busy", "exit 6: the port is in use or in transition",
        "A process has a raw queue pair on the port, another manactl is at work on the same PCI "
        "function, the driver is in transition, or another program keeps changing the port while a "
        "claim reads it. Nothing was changed, or what was changed is restored. Or `hold` could not "
        "begin, as the inotify instances of the user or its open files are used up; or there were no "
        "descriptors or no memory to look with.",
        "manactl", exit_code=6,
        forms=("keeps changing", "cannot be watched: <any>",
               "there is nothing to look with: <any>"),
        remedy=(Step("Wait for it:", "manactl release --wait 60 PORT"),
                Step("Or end the process that the message names."),
                Step("Of hold, raise the limit:", "sysctl -w fs.inotify.max_user_instances=1024")),
        see=("holder", "locked", "in-transition"),
    ),
    _topic(
        "denied", "exit 7: a privilege is missing; nothing was touched",
        "The message names it: CAP_NET_ADMIN to set a netdev up or down, CAP_NET_RAW to prove by a "
        "raw queue pair that a vport is free, or the state directory is root's. Root of a user "
        "namespace (a rootless container, `unshare -Ur`) has them over what belongs to that "
        "namespace only.",
        "manactl", exit_code=7, forms=("needs CAP_NET_ADMIN", "needs CAP_NET_RAW"),
        check=(Step("What this shell may do:", "getpcaps $$"),),
        remedy=(Step("As root:", "sudo manactl claim --raw-qp PORT"),), see=("EPERM",),
    ),
    _topic(
        "unsupported", "exit 8: not supported here",
        "No MANA function, or one whose port has no RDMA device. Nothing was touched.",
        "manactl", exit_code=8,
        check=(Step("What is missing:", "manactl doctor"),
               Step("Whether the device is there:", "lspci -d 1414:00ba"),
               Step("Whether the drivers are:", "lsmod | grep mana"), _STATUS),
        remedy=(Step("Load the RDMA driver (Ubuntu has it in linux-modules-extra-azure):",
                     "modprobe mana_ib"),),
        forms=("no MANA function here",),
        see=("no-rdma-driver",),
    ),
    _topic(
        "interrupted", "exit 130: interrupted before anything was changed",
        "^C or SIGTERM came while manactl was only reading. After the first change a signal makes "
        "manactl restore everything, which is exit 4.",
        "manactl", exit_code=130, check=(),
    ),
    _topic(
        "pipe", "exit 141: the reader of the output has gone",
        "Standard output was a pipe whose reader ended, as with `| head`. It is what a shell "
        "reports of a program that SIGPIPE ended.",
        "manactl", exit_code=141, check=(),
    ),
    _topic(
        "holder", "a live raw queue pair has the port (exit 6)",
        "The message names the processes that have the RDMA device open. A vport is free only when "
        "the last of them that shares the descriptor has closed it: the creator may have ended and "
        "a child of it still hold the port. A killed DPDK program needs up to two seconds.",
        "manactl; the kernel would answer EBUSY",
        check=(Step("Who it is:", "manactl status -v PORT"),),
        remedy=(Step("Wait until it is gone:", "manactl release --wait 60 PORT"),
                Step("Or have release end it, by SIGTERM:", "manactl release --terminate PORT")),
        forms=("a raw QP still has its vport", "a raw QP has the vport already",
               "the vport of <name> is still taken after <n> attempts"),
        see=("raw-qp",),
    ),
    _topic(
        "locked", "another manactl is at work on the same PCI function (exit 6)",
        "One manactl at a time changes the ports of a function, since a reset of the function "
        "takes all of them. The message names the process. The lock ends with its process, however "
        "that ends.",
        "flock on a file under /var/lib/manactl/locks",
        check=(Step("What it is doing:", "ps -fp PID"),),
        remedy=(Step("Wait for it:", "manactl claim --raw-qp PORT --wait 30"),),
        forms=("another manactl is at work on <name>",
               "its claim or release is not finished: manactl (pid <n>) is at work"),
    ),
    _topic(
        "claimed", "a claim that ends by itself needs its ports for itself (exit 6)",
        "A port is claimed already. A claim that ends with its command, or unless it is confirmed, "
        "would take the port from the claim that was there first, so nothing is touched.",
        "the journals",
        remedy=(Step("Release it first:", "manactl release PORT"),
                Step("Or run the command without manactl: the port is free for it.")),
        forms=("claimed already, by a claim that does not end with this one",),
    ),
    _topic(
        "guardian", "the process that is to end the claim is missing (exit 4)",
        "A claim with a command, or one that is to be confirmed, has a guardian, which releases the "
        "ports when manactl is killed or nobody confirms in time. It could not be started or cannot "
        "watch the journal (too many processes or open files), or it was killed before the command "
        "was run or the port claimed; or the time to confirm was over by then. The ports are as "
        "they were.",
        "manactl",
        check=(Step("Limits of this shell:", "ulimit -a"),
               Step("inotify instances of a user:",
                    "sysctl fs.inotify.max_user_instances")),
        remedy=(Step("Fix the cause, or claim without a command:",
                     "manactl claim --raw-qp PORT"),),
        forms=("the guardian, the process that is to end the claim, cannot do its work: <any>",
               "the time to confirm it was over before it was made"),
    ),
    _topic(
        "expired", "the claim was not confirmed in time and was released (exit 4)",
        "It was made with --confirm-within, and its time was over before `manactl confirm` came. Its "
        "guardian has set the port up and restored all that was on it.",
        "the journal's `releasing` record, whose reason is expired",
        check=(Step("When it was released, and who had claimed it:", "manactl history PORT"),),
        remedy=(Step("Claim it again, with more time:",
                     "manactl claim --raw-qp PORT --confirm-within 600"),),
        forms=("<name> was not confirmed in time: it was released at <any>, and all on it is restored",
               "expired, released"),
    ),
    _topic(
        "persist", "a port is still left down at boot (exit 5)",
        "`claim --persist` has told its network manager so by files below /etc. They could not be "
        "removed, or the manager not be told that they are gone; what was claimed is released all "
        "the same.",
        "the files that `manactl status` names",
        check=(Step("Whether /etc can be written:", "findmnt -T /etc/systemd/network"),
               Step("What is there:",
                    "ls -l /etc/systemd/network /etc/NetworkManager/conf.d")),
        remedy=(Step("Fix the cause, then:", "manactl release PORT"),),
        forms=("<name>: released as far as it was claimed, but the files by which it is left down at "
               "boot could not be removed, or the manager not be told of it: <any>",
               "it stays down at boot, too (claim --persist), by <any>"),
    ),
    _topic(
        "state-dir", "the state directory cannot be used (exit 3)",
        "Without a journal nothing could be restored after a crash, so nothing is touched. The "
        "directory is full, read-only, not root's, or others may write to it.",
        "manactl",
        check=(Step("Owner and mode (root, 0700):", "ls -ld /var/lib/manactl /var/lib/manactl/*"),
               Step("Room:", "df /var/lib/manactl")),
    ),
    _topic(
        "residue", "not everything could be restored (exit 5)",
        "Each line under `Not restored:` is one thing that is missing or could not be undone. The "
        "journal stays open, and recover may be tried as often as you like: what is there already "
        "is left alone.",
        "manactl compares the port with the claim's snapshot",
        remedy=(Step("Fix what the lines name (a gateway that is gone, an address that another "
                     "device has got)."), _AGAIN, _ACCEPT),
        forms=("Not restored", "not attempted:", "not fully restored"),
        see=("open-refused",),
    ),
    _topic(
        "router-advertisement", "a router has to restore it; nothing is wrong (exit 0)",
        "The kernel learned these addresses and routes from an IPv6 router. Made again by a request "
        "they would be strangers to it: the next advertisement could not refresh or withdraw them. "
        "The kernel asks for one as soon as the port is up, release waits 5 s for it, and what has "
        "not come then comes with the next one, at the latest when the router sends it unasked.",
        "RTF_ADDRCONF in the kernel: rt6_get_dflt_router(), addrconf_prefix_rcv()",
        check=(Step("What has come:", "ip -6 route show dev PORT"),
               Step("Whether the port takes them, and asks for them:",
                    "sysctl net.ipv6.conf.PORT.accept_ra net.ipv6.conf.PORT.forwarding "
                    "net.ipv6.conf.PORT.router_solicitations")),
        remedy=(Step("Ask the router now (ndisc6):", "rdisc6 PORT"),),
        forms=("comes with the next router advertisement",),
        see=("residue",),
    ),
    _topic(
        "lost", "only its maker can put it back; the release is complete (exit 0)",
        "No request can make these again: an anycast address that a program has joined, a route or "
        "nexthop with a BPF program and what goes by it, the place of a route among equal ones on "
        "other ports, settings of a netdev that was re-created. The plan of the claim lists them. "
        "What is `settled` a routing daemon has put elsewhere by itself. What is `left out` is an "
        "address that somebody has removed while a network manager left the netdev alone, with "
        "others there still: its line has the command that sets it again.",
        "manactl compares the port with the claim's snapshot",
        check=(Step("What is lost, before a claim:", "manactl claim --raw-qp PORT --dry-run"),
               Step("Which way packets take now:", "ip route get ADDRESS")),
        remedy=(Step("Restart the program that made it, or set it again by hand. Metrics that "
                     "differ make an order of routes that stays."),),
        forms=("cannot be restored:",
               "(order: it came first, and comes after release behind",
               "taken over by its routing daemon, left as it is",
               "somebody removed it while the port was claimed: left out"),
        see=("residue", "settling"),
    ),
    _topic(
        "settling", "the port is up, and its bridge or bond uses it a while later (exit 0)",
        "A bridge with STP lets a port listen and learn first, for one forward delay each, 15 s "
        "unless set otherwise. A bond waits for its updelay, for an answer to its ARP probes, or "
        "(802.3ad) for the LACP partner at the other end. A port that was the active slave is made "
        "it again by release --wait, or by the command that release prints.",
        "the state of the port in its bridge or bond, by rtnetlink",
        check=(Step("Its state in the bridge:", "bridge link show dev PORT"),
               Step("Its state in the bond:", "cat /proc/net/bonding/BOND")),
        remedy=(Step("Wait for it the next time:", "manactl release PORT --wait 60"),),
        forms=("is listening; <name> forwards in up to <n> s", "waits for its LACP partner",
               "waits for the updelay of <name>", "waits for an answer to the ARP probes of <name>"),
        see=("lost",),
    ),
    _topic(
        "no-netdev", "the claimed port has no netdev here (exit 5)",
        "The device was unplugged or is being probed again, or the netdev was moved to another "
        "network namespace. Nothing was changed and the journal stays open.",
        "manactl",
        remedy=(Step("When the netdev is in a namespace, move it back:",
                     "ip -n NAMESPACE link set PORT netns 1"), _AGAIN,
                Step("When it never comes back, by its PCI address and port:",
                     "manactl recover --accept 7870:00:00.0:1")),
    ),
    _topic(
        "journal", "a journal is corrupt, not trusted, or cannot be closed (exit 5)",
        "Its checksums, owner, mode or schema are wrong, what it says makes no sense, or it cannot "
        "be closed. Nothing is changed by such a journal. Its first line holds the snapshot as readable JSON.",
        "files under /var/lib/manactl/claims",
        check=(Step("Owner, mode, links:", "ls -l /var/lib/manactl/claims"),
               Step("The snapshot:", "head -n 1 /var/lib/manactl/claims/FILE")),
        remedy=(Step("Of a newer version: release with the manactl that claimed."),
                Step("Otherwise restore the port by hand from the snapshot, then:",
                     "mv /var/lib/manactl/claims/FILE /root/")),
        forms=("journal <name> is corrupt", "journal <name> is not trusted",
               "journal <name> cannot be believed", "journal <name> is of another version"),
    ),
    _topic(
        "interrupted-claim", "an earlier claim or release was interrupted (exit 5)",
        "Its manactl was killed before it was done, and the port may be in any state between "
        "before and after. A new claim would take that for the port's normal state, so it refuses.",
        "the journal",
        check=(Step("What is left, and what recover will do:", "manactl recover --dry-run"),),
        remedy=(Step("Undo it:", "manactl recover"),),
        forms=("a claim of it was interrupted", "a release of it was interrupted",
               "an earlier claim or release of <name> was interrupted",
               "its netdev was not touched yet"),
        see=("residue",),
    ),
    _topic(
        "claim-stands", "a claim that stands has no residue to accept (exit 3)",
        "`recover --accept` ends a claim that was interrupted, or whose netdev is gone, with the "
        "port as it is. This claim was not interrupted and can be released, which restores all. "
        "Nothing was changed.",
        "the journal",
        check=(_STATUS,),
        remedy=(Step("Release it:", "manactl release PORT"),),
        forms=("there is no residue to accept",),
    ),
)  # fmt: skip
