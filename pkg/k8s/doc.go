// SPDX-License-Identifier: Apache-2.0

// Package k8s speaks with an API server: how it is reached (config.go), the objects
// that Weft reads and writes there (client.go), and their conversion to the model and
// back (identity.go, node.go, slice.go). Kinds that a manifest folder may hold, too,
// are converted by package convert.
package k8s
