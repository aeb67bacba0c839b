// SPDX-License-Identifier: Apache-2.0

//go:build !weft_ctalt

package datapath

// conntrackVersion is the layout of struct weft_ct and its keys.
const conntrackVersion = 1
