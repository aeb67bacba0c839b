// SPDX-License-Identifier: Apache-2.0

// Package l7 tests how the kernel hands connections over to the stock Envoy: the
// datapath and Envoy alone, with rulesets and policies that the tests write themselves.
package l7
