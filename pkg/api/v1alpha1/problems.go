// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"errors"
	"fmt"
	"slices"
)

// problems collects what is wrong with an object, each with the path of its
// field and what to do about it.
type problems struct{ found []string }

func (p *problems) add(path, format string, args ...any) {
	p.found = append(p.found, path+": "+fmt.Sprintf(format, args...))
}

// err joins what was found, sorted; nil if nothing was.
func (p *problems) err() error {
	slices.Sort(p.found)
	p.found = slices.Compact(p.found)
	var errs []error
	for _, f := range p.found {
		errs = append(errs, errors.New(f))
	}
	return errors.Join(errs...)
}

// Remedies says, for each field of CiliumNetworkPolicy that is not built yet,
// what to do instead. The rules of the schema say the same.
func Remedies() map[string]string {
	return map[string]string{
		"nodeSelector":      "use endpointSelector",
		"log":               "remove it",
		"fromRequires":      "put its requirements into every fromEndpoints selector",
		"fromNodes":         "use fromEntities with host and remote-node",
		"fromGroups":        "list the addresses in fromCIDRSet",
		"toRequires":        "put its requirements into every toEndpoints selector",
		"toNodes":           "use toEntities with host and remote-node",
		"toGroups":          "list the addresses in toCIDRSet",
		"toServices":        "use toEndpoints with the labels of the service's pods",
		"toFQDNs":           "list the addresses in toCIDR",
		"authentication":    "remove it",
		"listener":          "remove it",
		"terminatingTLS":    "remove it",
		"originatingTLS":    "remove it",
		"kafka":             "remove it",
		"dns":               "remove it",
		"l7proto":           "remove it",
		"l7":                "remove it",
		"secret":            "write the value itself as value",
		"cidrGroupRef":      "list the group's prefixes as cidr",
		"cidrGroupSelector": "list the groups' prefixes as cidr",
	}
}

// refuse reports a field that is used and not built yet.
func (c *converter) refuse(path, field string, used bool) {
	if used {
		c.p.add(path+"."+field, "not supported yet; %s", Remedies()[field])
	}
}
