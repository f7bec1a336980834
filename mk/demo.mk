# SPDX-License-Identifier: GPL-2.0-or-later
demo: all $(if $(filter-out 0,$(IKE)),ike) ## figure 4 built, used, broken and repaired in namespaces (root, half a minute); IKE=1: with certificates
	@BIN=$(abspath $(B)) IKE=$(IKE) examples/figure4/demo

.PHONY: demo
