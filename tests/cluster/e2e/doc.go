// SPDX-License-Identifier: Apache-2.0

// Package e2e tests Weft as who installs it has it: on a real Kubernetes, with the
// commands of the README. One cluster is shared by all tests; each asks for it with
// Weft installed, whatever an earlier one left.
package e2e
