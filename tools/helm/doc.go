// SPDX-License-Identifier: Apache-2.0

// Package helm holds Helm, pinned, and the tests of the chart that need it. It is a
// module of its own, as Helm would bring a hundred others into the product's.
package helm
