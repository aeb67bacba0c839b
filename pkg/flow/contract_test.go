// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

var _ Source = (*datapath.FlowReader)(nil)

// The kernel's enum, the domain model's table and the API's enum are one list.
func TestReasonsAgreeEverywhere(t *testing.T) {
	texts := model.ReasonTexts()
	if got := int(weftbpf.BpfWeftReasonWEFT_REASON_MAX); got != len(texts) {
		t.Fatalf("the kernel programs know %d reasons, the table %d", got, len(texts))
	}
	if got := len(agentv1.DropReason_name); got != len(texts) {
		t.Fatalf("the API knows %d reasons, the table %d", got, len(texts))
	}
	for _, v := range enumFromObject(t, "weft_reason") {
		if v.Name == "WEFT_REASON_MAX" {
			continue
		}
		name := strings.TrimPrefix(v.Name, "WEFT_DROP_")
		if v.Name == "WEFT_PASSED" {
			name = "NONE"
		}
		if got := model.Reason(v.Value).String(); got != name {
			t.Errorf("reason %d: the kernel says %s, the table %s", v.Value, name, got)
		}
		if got := agentv1.DropReason_name[int32(v.Value)]; got != "DROP_REASON_"+name {
			t.Errorf("reason %d: the kernel says %s, the API %s", v.Value, name, got)
		}
	}
}

func TestFlowTypesAgreeEverywhere(t *testing.T) {
	values := enumFromObject(t, "weft_flow_type")
	const ours = 1 // FlowRequest
	if len(values) != len(agentv1.FlowType_name)-1-ours || len(values) != int(model.FlowAudit) || len(values) >= int(model.FlowRequest) {
		t.Errorf("%d types in the kernel, %d in the API, %d in the model",
			len(values), len(agentv1.FlowType_name)-1, model.FlowAudit)
	}
	for _, v := range values {
		want := "FLOW_TYPE_" + strings.TrimPrefix(v.Name, "WEFT_FLOW_")
		if got := agentv1.FlowType_name[int32(v.Value)]; got != want {
			t.Errorf("type %d: the kernel says %s, the API %s", v.Value, want, got)
		}
	}
}

func TestLegsAgreeEverywhere(t *testing.T) {
	values := enumFromObject(t, "weft_leg")
	if len(values) != len(agentv1.FlowLeg_name) || len(values) != int(model.LegBetween)+1 {
		t.Errorf("%d legs in the kernel, %d in the API", len(values), len(agentv1.FlowLeg_name))
	}
	for _, v := range values {
		if got := agentv1.FlowLeg_name[int32(v.Value)]; got != "FLOW_"+strings.TrimPrefix(v.Name, "WEFT_") {
			t.Errorf("leg %d: the kernel says %s, the API %s", v.Value, v.Name, got)
		}
	}
}

func TestReservedNamesAgree(t *testing.T) {
	for id := model.IdentityNone; id < 256; id++ {
		if got, want := entityName(id), model.ReservedNames()[id]; got != want {
			t.Errorf("identity %d: %q, the model says %q", id, got, want)
		}
	}
}

func enumFromObject(t *testing.T, name string) []btf.EnumValue {
	t.Helper()
	spec, err := weftbpf.LoadBpf()
	if err != nil {
		t.Fatal(err)
	}
	return enumOf(t, spec, name)
}

func enumOf(t *testing.T, spec *ebpf.CollectionSpec, name string) []btf.EnumValue {
	t.Helper()
	var e *btf.Enum
	if err := spec.Types.TypeByName(name, &e); err != nil {
		t.Fatalf("the object has no enum %s: %v", name, err)
	}
	return e.Values
}

func TestRecordSizeIsTheKernels(t *testing.T) {
	spec, err := weftbpf.LoadBpf()
	if err != nil {
		t.Fatal(err)
	}
	var s *btf.Struct
	if err := spec.Types.TypeByName("weft_flow", &s); err != nil {
		t.Fatal(err)
	}
	if int(s.Size) != RecordSize {
		t.Fatalf("struct weft_flow has %d bytes, the decoder expects %d", s.Size, RecordSize)
	}
	if _, err := Decode(bytes.Repeat([]byte{1}, RecordSize-1)); err == nil {
		t.Fatal("a truncated record was accepted")
	}
}
