# SPDX-License-Identifier: GPL-2.0-or-later
# vmlinux.h comes from the running kernel's BTF. Where there is none (a build chroot, an old
# kernel) say what to do: VMLINUX_BTF may name any vmlinux with BTF, CO-RE relocates at load.
VMLINUX_BTF ?= /sys/kernel/btf/vmlinux
VMLINUX_H := $(B)/vmlinux/vmlinux.h
$(VMLINUX_H):
	$(call msg,BTF,$(VMLINUX_BTF))
	@test -r $(VMLINUX_BTF) || { echo "no BTF at $(VMLINUX_BTF): set VMLINUX_BTF=/path/to/vmlinux" \
		"(the linux-image-*-dbg package has one), or mount /sys" >&2; exit 1; }
	@mkdir -p $(@D)
	$(Q)$(BPFTOOL) btf dump file $(VMLINUX_BTF) format c > $@
