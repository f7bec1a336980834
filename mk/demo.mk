# SPDX-License-Identifier: GPL-2.0-or-later
demo: all ## figure 4 built, used, broken and repaired in namespaces (root, half a minute)
	@BIN=$(abspath $(B)) examples/figure4/demo

.PHONY: demo
