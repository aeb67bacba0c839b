// SPDX-License-Identifier: Apache-2.0

// Package version tells which release this is, and what it was built with.
package version

import (
	"runtime"

	"github.com/weftmesh/weft"
)

// String is the release, such as 0.1.0.
func String() string { return weft.Version() }

// Long adds the Go version and platform.
func Long() string {
	return String() + " (" + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + ")"
}
