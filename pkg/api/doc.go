// SPDX-License-Identifier: Apache-2.0

// Package api is the folder of what is spoken with Weft from outside: protocol
// buffers of the agent's API and the types of its Kubernetes kinds. It has no
// code of its own.
package api

//go:generate ../../build/tools/buf generate
