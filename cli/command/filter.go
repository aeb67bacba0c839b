// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/cli/client"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// filterFlag is one field of a filter on the command line, with its --not- form.
type filterFlag struct {
	name, short, usage string
	set                func(f *agentv1.FlowFilter, values []string) error
	values             []string // that it can have, if they are few
	pods, services     bool     // it takes such
	whole              bool     // a value may have commas of its own
}

// filterFlags are the values given, in the order of fields.
type filterFlags struct {
	fields  []filterFlag
	include [][]string
	exclude [][]string
}

func filterFields() []filterFlag {
	return []filterFlag{
		{name: "pod", usage: "only flows of this pod, on either side: namespace/name (of a pod, or of the workload that made it), namespace/ or the beginning of a name", pods: true,
			set: func(f *agentv1.FlowFilter, v []string) error { f.Pod = v; return nil }},
		{name: "from-pod", usage: "only flows that this pod began", pods: true,
			set: func(f *agentv1.FlowFilter, v []string) error { f.FromPod = v; return nil }},
		{name: "to-pod", usage: "only flows to this pod", pods: true,
			set: func(f *agentv1.FlowFilter, v []string) error { f.ToPod = v; return nil }},
		{name: "service", usage: "only flows that asked for this service: namespace/name, namespace/ or the beginning of a name", services: true, set: setService},
		{name: "namespace", short: "n", usage: "only flows of this namespace, on either side",
			set: func(f *agentv1.FlowFilter, v []string) error { f.Namespace = v; return nil }},
		{name: "label", short: "l", whole: true, usage: "only flows of pods that this selector matches, on either side: app=web, tier in (a,b), !test",
			set: func(f *agentv1.FlowFilter, v []string) error { f.Label = v; return nil }},
		{name: "identity", usage: "only flows of this identity, on either side: a number, a reserved name such as host, or world", set: setIdentity},
		{name: "ip", usage: "only flows of this address or CIDR, on either side",
			set: func(f *agentv1.FlowFilter, v []string) error { f.Ip = v; return nil }},
		{name: "port", usage: "only flows of this port, on either side", set: setPort},
		{name: "protocol", usage: "only flows of this protocol, by number or name", values: []string{"tcp", "udp", "sctp", "icmp", "icmpv6"},
			set: func(f *agentv1.FlowFilter, v []string) error { f.Protocol = v; return nil }},
		{name: "verdict", usage: "only flows with this verdict", values: []string{"forwarded", "dropped", "audit"}, set: setVerdict},
		{name: "http-method", usage: "only requests with this method",
			set: func(f *agentv1.FlowFilter, v []string) error { f.HttpMethod = v; return nil }},
		{name: "http-path", usage: "only requests for this path: its beginning, or an expression (RE2) for that", whole: true,
			set: func(f *agentv1.FlowFilter, v []string) error { f.HttpPath = v; return nil }},
		{name: "http-status", usage: "only requests with this status: 404, all that begin so (5+), or 0 where no answer came",
			set: func(f *agentv1.FlowFilter, v []string) error { f.HttpStatus = v; return nil }},
		{name: "type", usage: "only events of this kind", values: []string{"new", "drop", "end", "alive", "audit", "request"}, set: setType},
	}
}

func (a *app) addFilterFlags(c *cobra.Command, f *filterFlags) {
	f.fields = filterFields()
	f.include = make([][]string, len(f.fields))
	f.exclude = make([][]string, len(f.fields))
	for i, field := range f.fields {
		usage := field.usage
		if len(field.values) > 0 {
			usage += ": " + strings.Join(field.values, ", ")
		}
		for name, target := range map[string]*[]string{field.name: &f.include[i], "not-" + field.name: &f.exclude[i]} {
			short, text := field.short, usage
			if name != field.name {
				short, text = "", "leave out what --"+field.name+" would keep"
			}
			if field.whole {
				c.Flags().StringArrayVarP(target, name, short, nil, text)
			} else {
				c.Flags().StringSliceVarP(target, name, short, nil, text)
			}
			a.completeFilter(c, name, field)
		}
	}
}

func (a *app) completeFilter(c *cobra.Command, flag string, field filterFlag) {
	switch {
	case len(field.values) > 0:
		complete(c, flag, field.values...)
	case field.pods, field.services:
		from := a.completePods
		if field.services {
			from = a.completeServices
		}
		if err := c.RegisterFlagCompletionFunc(flag, from); err != nil {
			panic(err) // the flag does not exist
		}
	default:
		complete(c, flag) // no names of files
	}
}

// completeIn is how long a shell may hang: a cluster is further away than a socket.
func (a *app) completeIn() time.Duration {
	if a.target.remote {
		return 3 * time.Second
	}
	return 500 * time.Millisecond
}

// completePods asks the agents for their pods.
func (a *app) completePods(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.completeFrom(c, prefix, func(ctx context.Context, conn *client.Client) (pods []string, err error) {
		all, err := conn.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
		for _, e := range all.GetEndpoints() {
			pods = append(pods, e.GetNamespace()+"/"+e.GetPod())
		}
		return pods, err
	})
}

// completeServices is completePods for services.
func (a *app) completeServices(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.completeFrom(c, prefix, func(ctx context.Context, conn *client.Client) (services []string, err error) {
		all, err := conn.ListServices(ctx, &agentv1.ListServicesRequest{})
		for _, s := range all.GetServices() {
			services = append(services, s.GetNamespace()+"/"+s.GetName())
		}
		return services, err
	})
}

func (a *app) completeFrom(
	c *cobra.Command, prefix string, ask func(context.Context, *client.Client) ([]string, error),
) ([]string, cobra.ShellCompDirective) {
	if err := a.target.choose(c.Flags(), a.env.Getenv); err != nil { // completion runs no PreRun
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), a.completeIn())
	defer cancel()
	f, err := a.fleet(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, one := range each(ctx, a, f, ask) {
		names = append(names, one.message...)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

// filters makes one filter of all that is wanted, and one of each field that is
// not: leaving out by either is leaving out.
func (f *filterFlags) filters() (include, exclude []*agentv1.FlowFilter, err error) {
	var wanted *agentv1.FlowFilter
	for i, field := range f.fields {
		if len(f.include[i]) > 0 {
			if wanted == nil {
				wanted = &agentv1.FlowFilter{}
				include = append(include, wanted)
			}
			if err := field.set(wanted, f.include[i]); err != nil {
				return nil, nil, usagef("--%s: %w", field.name, err)
			}
		}
		if len(f.exclude[i]) > 0 {
			unwanted := &agentv1.FlowFilter{}
			exclude = append(exclude, unwanted)
			if err := field.set(unwanted, f.exclude[i]); err != nil {
				return nil, nil, usagef("--not-%s: %w", field.name, err)
			}
		}
	}
	return include, exclude, nil
}

func setIdentity(f *agentv1.FlowFilter, values []string) (err error) {
	f.Identity, err = identities(values)
	return err
}

// setService refuses names as flows show them, with the port: they would match nothing.
func setService(f *agentv1.FlowFilter, values []string) error {
	for _, v := range values {
		if name, _, ok := strings.Cut(v, ":"); ok {
			return usagef("%q: a service is named without its port: %s", v, name)
		}
	}
	f.Service = values
	return nil
}

func setPort(f *agentv1.FlowFilter, values []string) (err error) {
	f.Port, err = ports(values)
	return err
}

// identities are given by number or, those with a fixed meaning, by name; world is
// both of its families.
func identities(values []string) ([]uint32, error) {
	byName := map[string][]uint32{"world": {uint32(model.IdentityWorldIPv4), uint32(model.IdentityWorldIPv6)}}
	for id, name := range model.ReservedNames() {
		byName[name] = []uint32{uint32(id)}
	}
	var out []uint32
	for _, v := range values {
		if named, ok := byName[strings.TrimPrefix(v, model.SourceReserved+":")]; ok {
			out = append(out, named...)
			continue
		}
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return nil, usagef("%q: want a number or one of %s", v, strings.Join(slices.Sorted(maps.Keys(byName)), ", "))
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

func ports(values []string) ([]uint32, error) {
	var out []uint32
	for _, v := range values {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return nil, usagef("%q: want a number from 0 to 65535", v)
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

func setVerdict(f *agentv1.FlowFilter, values []string) error {
	for _, v := range values {
		n, ok := agentv1.Verdict_value["VERDICT_"+strings.ToUpper(v)]
		if !ok || n == 0 {
			return usagef("%q: want forwarded, dropped or audit", v)
		}
		f.Verdict = append(f.Verdict, agentv1.Verdict(n))
	}
	return nil
}

func setType(f *agentv1.FlowFilter, values []string) error {
	for _, v := range values {
		n, ok := agentv1.FlowType_value["FLOW_TYPE_"+strings.ToUpper(v)]
		if !ok || n == 0 {
			return usagef("%q: want new, drop, end, alive, audit or request", v)
		}
		f.Type = append(f.Type, agentv1.FlowType(n))
	}
	return nil
}
