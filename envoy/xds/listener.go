// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	odv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	osv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_src/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	setv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weftmesh/weft/pkg/model"
)

const (
	statPrefix = "weft"    // of all listeners together: each of its own would cost memory
	buffer     = 256 << 10 // bytes that a connection holds for a peer that is slower
	backlog    = 4096
)

// listener of a ruleset: the kernel gives it the connections that the ruleset is
// for, with the addresses that they had.
func listener(rs sifted, o Options) *listenerv3.Listener {
	port := model.ProxyPort(o.Block, rs.ID)
	l := &listenerv3.Listener{
		Name:                          RulesetName(rs.ID),
		StatPrefix:                    statPrefix,
		Address:                       socketAddress(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(buffer),
		TcpBacklogSize:                wrapperspb.UInt32(backlog),
		EnableReusePort:               wrapperspb.Bool(true),
	}
	if !o.NoIPv6 {
		l.AdditionalAddresses = []*listenerv3.AdditionalAddress{{Address: socketAddress(netip.AddrPortFrom(netip.IPv6Loopback(), port))}}
	}
	if !o.direct() {
		l.Transparent = wrapperspb.Bool(true)
		l.ListenerFilters = append(l.ListenerFilters,
			listenerFilter("original_dst", &odv3.OriginalDst{}),
			listenerFilter("original_src", &osv3.OriginalSrc{Mark: model.ProxyMark(rs.ID)}))
	}
	if !wantsTLS(rs.Ruleset) {
		l.FilterChains = []*listenerv3.FilterChain{httpChain(rs.Ruleset, o)}
		return l
	}
	// Only here the client must speak first, as it does in TLS.
	l.ListenerFilters = append(l.ListenerFilters, listenerFilter("tls_inspector", &tlsv3.TlsInspector{}))
	l.FilterChains, l.FilterChainMatcher = tlsChains(rs, o)
	return l
}

func socketAddress(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func listenerFilter(name string, m proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: "envoy.filters.listener." + name,
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(m)}}
}

func filter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(m)}}
}

// What a connection is said to be in access logs. It is kept beside the connection
// and not in the loggers, for Envoy keeps a stream to the sink for each logger that
// differs.
const (
	StateRuleset = "weft.ruleset"
	// StateVerdict is of what is not HTTP; of a pair's request the first of its two.
	StateVerdict = "weft.verdict"
)

// note writes down what a connection is.
func note(rs model.Ruleset, verdict string) *listenerv3.Filter {
	values := []*statev3.FilterStateValue{noteValue(StateRuleset, fmt.Sprint(rs.ID))}
	if verdict != "" {
		values = append(values, noteValue(StateVerdict, verdict))
	}
	return filter("envoy.filters.network.set_filter_state", &setv3.Config{OnNewConnection: values})
}

func noteValue(key, value string) *statev3.FilterStateValue { return formatted(key, literal(value)) }

// formatted notes what Envoy makes of a format.
func formatted(key, format string) *statev3.FilterStateValue {
	return &statev3.FilterStateValue{
		Key:        &statev3.FilterStateValue_ObjectKey{ObjectKey: key},
		FactoryKey: "envoy.string",
		Value: &statev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: format}}}}},
	}
}
