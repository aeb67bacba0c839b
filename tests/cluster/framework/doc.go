// SPDX-License-Identifier: Apache-2.0

// Package framework is what tests of Weft on a real cluster have in common. A Suite is
// the tests of a package: it gives them one cluster, with Weft and with the programs that
// they need. A World is that cluster in the hands of one test: it runs commands there,
// waits, makes pods, lets parts die, and has traffic made and counted.
package framework
