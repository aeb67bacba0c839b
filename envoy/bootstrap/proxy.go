// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weftmesh/weft/pkg/model"
)

// Proxy is what an Envoy says of itself to the agent: with which of two side by side it
// is to be taken. The zero value is that of a host that has one only.
type Proxy struct {
	Block   uint8  // of the ports that it listens on
	Pod     string // UID of its pod; empty: it is in none
	Started int64  // when its weft-envoy was, in nanoseconds since 1970
	Leaving bool   // it is about to end; said by weft-envoy, not by Envoy
}

// Names of the members in the metadata of Envoy's node.
const (
	metaBlock   = "block"
	metaPod     = "pod"
	metaStarted = "started"
	metaLeaving = "leaving"
)

// Metadata is what the agent reads with ReadProxy; nil if there is nothing to say.
func (p Proxy) Metadata() *structpb.Struct {
	if p == (Proxy{}) {
		return nil
	}
	out := &structpb.Struct{Fields: map[string]*structpb.Value{
		metaBlock: structpb.NewNumberValue(float64(p.Block)),
		metaPod:   structpb.NewStringValue(p.Pod),
		// A number would lose digits.
		metaStarted: structpb.NewStringValue(strconv.FormatInt(p.Started, 10)),
	}}
	if p.Leaving {
		out.Fields[metaLeaving] = structpb.NewBoolValue(true)
	}
	return out
}

// ReadProxy reads what an Envoy says of itself; one that says nothing is the only one.
func ReadProxy(node *corev3.Node) (p Proxy, err error) {
	fields := node.GetMetadata().GetFields()
	if len(fields) == 0 {
		return Proxy{}, nil
	}
	block := fields[metaBlock].GetNumberValue()
	for known := range uint8(model.ProxyBlocks) {
		if block == float64(known) {
			p = Proxy{Block: known, Pod: fields[metaPod].GetStringValue(), Leaving: fields[metaLeaving].GetBoolValue()}
			if p.Started, err = strconv.ParseInt(fields[metaStarted].GetStringValue(), 10, 64); err != nil {
				return Proxy{}, fmt.Errorf("reading when the proxy was started: %w", err)
			}
			return p, nil
		}
	}
	return Proxy{}, fmt.Errorf("reading the proxy's block of ports: there is no block %v", block)
}
