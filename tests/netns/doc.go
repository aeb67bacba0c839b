// SPDX-License-Identifier: Apache-2.0

// Package netns holds the scenarios of one host: the real agent, the real CNI
// plugin and pods as network namespaces, each test on a clean node. It has
// tests only.
package netns
