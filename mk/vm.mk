# SPDX-License-Identifier: GPL-2.0-or-later
# The VM lane: espwire against the kernel's XFRM, and espwire itself, on Debian's kernels under qemu.
VM_DIR ?= build/vm
VM_RUN = B=$(B) VM_DIR=$(VM_DIR) tests/vm/run
# the tree's own tests go first: they want a kernel without esp4; last what loads esp4_offload, which others have no use for
VM_SUITES := tree net self smoke matrix window edges fragments natt xfrm xtransport xleak xpaths xnat xike backend layer2 xwhole offload

vm-smoke: all $(BPF_TEST_BIN) ## first packets each way against XFRM on Linux 6.1: at most 3 minutes
	@$(VM_RUN) --minutes 3 --kernel 6.1 smoke

# both guests at once; the quick cut leaves the committed tables alone
ifeq ($(filter-out 0,$(QUICK)),)
VM_ARGS := --minutes 90 --jobs 2 --doc docs/interop.md
else
VM_ARGS := --minutes 25 --jobs 2
endif

test-vm: all ike $(UNIT_BIN) $(BPF_TEST_BIN) $(NET_TOOLS) ## XFRM matrix and espwire on Linux 6.1 and 6.12: at most 90 minutes, QUICK=1 25
	@$(VM_RUN) --xml vm-full $(VM_ARGS) $(VM_SUITES)

# hours: a guest for each kernel and mode. In pieces: BACKEND_ARGS="-k test_pmtu,test_link"; the table has the last verdict of each case
test-vm-backend: all ike $(NET_TOOLS) ## tests/net with every link in the kernel, and with one end each way: hours; docs/backends-tests.md
	@$(VM_RUN) --xml vm-backend --minutes 900 --jobs 2 --each --tally docs/backends-tests $(BACKEND_ARGS) \
		backend:xfrm backend:mixed backend:mixed-back

.PHONY: vm-smoke test-vm test-vm-backend
