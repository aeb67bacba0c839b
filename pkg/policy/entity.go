// SPDX-License-Identifier: Apache-2.0

package policy

import "github.com/weftmesh/weft/pkg/model"

// entity is what an entity's name stands for.
type entity struct {
	any      bool               // everybody
	reserved []model.IdentityID // identities of fixed meaning
	cluster  bool               // and every cluster identity
	local4   bool               // and every node-local identity of an IPv4 prefix
	local6   bool
}

// entityOf looks up an entity's name; ok is false for an unknown one. init and
// none stand for nobody: no endpoint is ever without its identity.
func entityOf(name string) (e entity, ok bool) {
	switch name {
	case "all":
		return entity{any: true}, true
	case "world":
		return entity{reserved: ids(model.IdentityWorldIPv4, model.IdentityWorldIPv6), local4: true, local6: true}, true
	case "world-ipv4":
		return entity{reserved: ids(model.IdentityWorldIPv4), local4: true}, true
	case "world-ipv6":
		return entity{reserved: ids(model.IdentityWorldIPv6), local6: true}, true
	case "cluster":
		return entity{cluster: true, reserved: ids(model.IdentityHost, model.IdentityRemoteNode,
			model.IdentityKubeAPIServer, model.IdentityHealth, model.IdentityIngress,
			model.IdentityUnmanaged, model.IdentityUnknown)}, true
	case "host":
		return entity{reserved: ids(model.IdentityHost)}, true
	case "remote-node":
		return entity{reserved: ids(model.IdentityRemoteNode)}, true
	case "kube-apiserver":
		return entity{reserved: ids(model.IdentityKubeAPIServer)}, true
	case "health":
		return entity{reserved: ids(model.IdentityHealth)}, true
	case "ingress":
		return entity{reserved: ids(model.IdentityIngress)}, true
	case "unmanaged":
		return entity{reserved: ids(model.IdentityUnmanaged)}, true
	case "init", "none":
		return entity{}, true
	}
	return entity{}, false
}

func ids(list ...model.IdentityID) []model.IdentityID { return list }
