// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestAProxyIsReadAsItWasWritten(t *testing.T) {
	for _, p := range []Proxy{{}, {Pod: "u", Started: 1}, {Block: 1, Pod: "u", Started: 1764140400123456789}, {Pod: "u", Leaving: true}} {
		if got, err := ReadProxy(&corev3.Node{Metadata: p.Metadata()}); err != nil || got != p {
			t.Errorf("%+v became %+v, %v", p, got, err)
		}
	}
	for _, block := range []float64{2, -1, 0.5} {
		m := Proxy{Pod: "u", Started: 1}.Metadata()
		m.Fields[metaBlock] = structpb.NewNumberValue(block)
		if got, err := ReadProxy(&corev3.Node{Metadata: m}); err == nil {
			t.Errorf("block %v became %+v", block, got)
		}
	}
}
