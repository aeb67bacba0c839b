// SPDX-License-Identifier: Apache-2.0

// Package ctalt holds the kernel programs compiled with another layout of
// conntrack entries (WEFT_CT_ALT in bpf/abi.h). Only builds with the tag
// weft_ctalt use it, to prove that live flows outlive a change of the layout.
package ctalt

//go:generate ../../../../build/tools/bpf2go -go-package ctalt -target bpfel -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -mcpu=v3 -DWEFT_CT_ALT" -no-global-types Bpf ../../../../bpf/weft.c
