// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// Services writes one line for each front end; nodes as for Endpoints, by service.
func Services(w io.Writer, all []*agentv1.Service, nodes []string) error {
	var rows [][]string
	var cells []string
	for i, s := range all {
		if nodes != nil {
			for range max(1, len(s.GetFrontends())) {
				cells = append(cells, nodes[i])
			}
		}
		name := s.GetNamespace() + "/" + s.GetName()
		for _, f := range s.GetFrontends() {
			hits := uint64(0)
			ready := 0
			for _, b := range f.GetBackends() {
				hits += b.GetHits()
				if b.GetState() == "ready" {
					ready++
				}
			}
			if f.GetAlgorithm() == "" { // nothing is chosen: it is not served at all
				rows = append(rows, []string{name, f.GetAddress(), f.GetProtocol(), "", "", "", f.GetMessage()})
				continue
			}
			rows = append(rows, []string{name, f.GetAddress(), f.GetProtocol(), f.GetAlgorithm(),
				fmt.Sprintf("%d of %d", ready, len(f.GetBackends())), number(hits), f.GetMessage()})
		}
		if len(s.GetFrontends()) == 0 {
			rows = append(rows, []string{name, "", "", "", "", "", s.GetMessage()})
		}
	}
	return nodeTable(w, []string{"SERVICE", "FRONT END", "PROTOCOL", "CHOICE", "READY", "CHOSEN", "NOT SERVED BECAUSE"}, rows, cells)
}

// Service writes all that is known of a service.
func Service(w io.Writer, s *agentv1.Service) error {
	affinity := "none"
	if d := s.GetAffinity(); d != nil {
		affinity = "by client, " + d.AsDuration().String()
	}
	served := "yes"
	if s.GetMessage() != "" {
		served = "no: " + s.GetMessage()
	}
	_, err := fmt.Fprintf(w, "service   %s\ntype      %s\nsource    %s\naffinity  %s\nserved    %s\n",
		printable(s.GetNamespace()+"/"+s.GetName()), orDash(s.GetType()), orDash(printable(s.GetSource())), affinity, printable(served))
	if err != nil {
		return err
	}
	for _, f := range s.GetFrontends() {
		if err := frontend(w, f); err != nil {
			return err
		}
	}
	return nil
}

func frontend(w io.Writer, f *agentv1.Frontend) error {
	about := []string{f.GetAddress(), f.GetProtocol()}
	if f.GetPortName() != "" {
		about = append(about, "port "+f.GetPortName())
	}
	if f.GetAlgorithm() != "" {
		about = append(about, "choice "+f.GetAlgorithm())
	}
	if f.GetNumber() != 0 {
		about = append(about, "number "+strconv.Itoa(int(f.GetNumber())))
	}
	if f.GetMessage() != "" {
		about = append(about, "not served: "+f.GetMessage())
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", printable(strings.Join(about, ", "))); err != nil {
		return err
	}
	if len(f.GetBackends()) == 0 {
		return nil
	}
	var rows [][]string
	for _, b := range f.GetBackends() {
		rows = append(rows, []string{"  " + b.GetAddress(), b.GetState(), b.GetPod(), b.GetNode(), number(b.GetHits())})
	}
	return Table(w, []string{"  BACKEND", "STATE", "POD", "NODE", "CHOSEN"}, rows)
}
