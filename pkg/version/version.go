// SPDX-License-Identifier: Apache-2.0

// Package version knows which release this is. The number comes from the file
// VERSION at the top of the repository by way of the linker.
package version

import "runtime"

// number is set by the linker: -X github.com/weftmesh/weft/pkg/version.number=…
var number = "dev"

// String is the release, such as 0.1.0, or dev for a build outside the Makefile.
func String() string { return number }

// Long adds the Go version and platform.
func Long() string {
	return number + " (" + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + ")"
}
