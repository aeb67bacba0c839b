// SPDX-License-Identifier: Apache-2.0

package datapath

import "errors"

var (
	// ErrSetInUse: a policy set cannot go while an endpoint row names it.
	ErrSetInUse = errors.New("policy set is in use")
	// ErrUnknownSet: an endpoint row names a policy set that was not applied.
	ErrUnknownSet = errors.New("policy set is not in the kernel")
	// ErrKernel: the kernel lacks something without which nothing works.
	ErrKernel = errors.New("this kernel cannot run Weft")
)
