// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real Kubernetes on one machine: API server, controller
// manager, scheduler and etcd, and nodes with kubelet and containerd, without
// kube-proxy and without any CNI plugin. What carries traffic is Weft, or nothing.
//
//	                 192.0.2.0/24                    172.30.0.0/24 (underlay)
//	outside ───────────────────── control-plane ──┬──────────── n1, n2, …
//	192.0.2.2                     192.0.2.1       │ bridge      172.30.0.11, .12, …
//	2001:db8::2                   172.30.0.1      │             fd00:172:30::11, …
//
// Each of these is a machine (package machine): namespaces without names around a
// PID 1. The control plane is the router between the nodes and the world; it has no
// route to pods, nor has anybody else that Weft does not give one. Clusters share
// nothing and all use these addresses. The computer around them sees one thing: a
// port on 127.0.0.1, which PID 1 of the control plane connects to the API server.
//
//	build.go         programs and how they are built, once
//	images.go        images, without a registry
//	pki.go           certificates and kubeconfigs
//	network.go       links between machines
//	controlplane.go, node.go, outside.go   what runs on each machine
//	cluster.go       up and down
//	api.go           Kubectl, Apply, waiting
//	gather.go        everything a failure may be understood by, in one folder
//
// Package framework is what tests of Weft do with one.
package cluster
