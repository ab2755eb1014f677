#!/bin/sh
# Run in a chroot with the kernel's headers: build.sh RELEASE. Drivers of the distribution in
# ./drivers, by their path below the modules' directory; what to put in their place, to ./out.
set -eu
cd "$(dirname "$0")"
release=$1
drivers=$(cd drivers && find . -name '*.ko')
mkdir -p out/kernel/drivers/hv

# The private layout that bus.c repeats: what uio_hv_generic refers to must be where bus.c has it.
# Instructions count from their own end, hence the 4 that is added to PC-relative ones.
uio=drivers/$(echo "$drivers" | grep uio_hv_generic)
found=$(readelf -rW "$uio" | sed -n 's/.*_PC32 .* vmbus_connection + /4 /p
    s/.*_32S .* vmbus_connection + /0 /p' | while read -r add offset; do
    printf '0x%x\n' $((0x$offset + add)); done | sort -u | tr '\n' ' ')
ours=$(sed -n 's/^#define CONNECTION_[A-Z_]* \(0x[0-9a-f]*\).*/\1/p' bus.c | sort -u | tr '\n' ' ')
if [ "$found" != "$ours" ]; then
    echo "struct vmbus_connection: the driver uses $found, bus.c has $ours" >&2
    exit 1
fi

build() {
    make -s -C "/usr/src/linux-headers-$release" M="$PWD" "$@" modules
}

if echo "$drivers" | grep -q /hv_vmbus.ko; then
    # The bus is a module: take its place. Without checksums of the exports any caller will do.
    build NAME=hv_vmbus
    objcopy -g -R __kcrctab_gpl -R .rela__kcrctab_gpl hv_vmbus.ko "out/kernel/drivers/hv/hv_vmbus.ko"
else
    # The bus is in the kernel: other names, and drivers that import those.
    build NAME=vmbus_lab RENAMED=y
    objcopy -g vmbus_lab.ko out/kernel/drivers/hv/vmbus_lab.ko
    sed -n 's/^#define \([a-z_0-9]*\) \(lab_.*\)$/\1 \2/p' names.h > symbols
    for driver in $drivers; do
        mkdir -p "out/$(dirname "$driver")"
        objcopy --redefine-syms=symbols "drivers/$driver" "out/$driver"
    done
fi
