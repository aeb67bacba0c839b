// SPDX-License-Identifier: Apache-2.0

// Package weft carries the version, from the one file that states it.
package weft

import (
	_ "embed"
	"strings"
)

//go:embed VERSION
var version string

// Version of this source tree, such as "0.1.0".
func Version() string { return strings.TrimSpace(version) }
