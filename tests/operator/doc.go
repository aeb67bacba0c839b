// SPDX-License-Identifier: Apache-2.0

// Package operator tests weft-operator, the program, against a real API server
// with no more rights than its documentation lists. Its tests are part of `make
// test-cluster`, which has the API server; they have the build tag cluster.
package operator
