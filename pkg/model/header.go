// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"fmt"
	"strings"
)

// maxDashes bounds the dashes and underscores of a header's name, as all its spellings
// are looked for: 2^6 of a name with six.
const maxDashes = 6

// Fault tells why the proxy cannot be asked for a header; nil: it can. Its text goes on
// after the header's name.
func (m HeaderMatch) Fault() error {
	switch {
	case strings.HasPrefix(m.Name, "x-envoy-"), strings.HasPrefix(m.Name, "x-weft-"):
		return errors.New("is a header of the proxy's own, which no client can send; ask for another one")
	case isHop(m.Name):
		return errors.New("is of one connection alone, and taken away before rules are asked; ask for another one")
	case m.Value != strings.Trim(m.Value, " \t"):
		return errors.New("is to have a value with blanks at an end, which none has; remove them")
	case strings.Contains(m.Name, "|"):
		return errors.New("has | in its name, which no record of a request can tell; ask for another one")
	case len(dashes(m.Name)) > maxDashes:
		return fmt.Errorf("has %d dashes and underscores in its name, of at most %d; ask for another one", len(dashes(m.Name)), maxDashes)
	case !m.Mismatch.changes():
		return nil
	case m.Name == "host":
		return errors.New("cannot be changed")
	case isFraming(m.Name):
		return errors.New("cannot be changed, as it says how the request goes on; leave mismatch out, or use LOG")
	}
	return nil
}

// Lookalikes are the names that servers which know headers as variables (CGI, RFC 3875,
// section 4.1.18) take for this one: x_role for x-role. There are at most 63 of a name
// that has no Fault.
func Lookalikes(name string) []string {
	places := dashes(name)
	places = places[:min(len(places), maxDashes)]
	var out []string
	for mask := range uint(1) << len(places) {
		as := []byte(name)
		for i, place := range places {
			as[place] = "-_"[mask>>i&1]
		}
		if string(as) != name {
			out = append(out, string(as))
		}
	}
	return out
}

// Spellings is how many names servers may take for one another: its Lookalikes, and it.
func Spellings(name string) int { return 1 << min(len(dashes(name)), maxDashes) }

// dashes are the places of dashes and underscores.
func dashes(name string) (places []int) {
	for i := range len(name) {
		if name[i] == '-' || name[i] == '_' {
			places = append(places, i)
		}
	}
	return places
}

// isHop tells the headers that the proxy takes away before it looks at a request (RFC 9110,
// section 7.6.1).
func isHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding":
		return true
	}
	return false
}

// isFraming tells the other headers that say how a message and its connection go on (RFC 9110,
// section 7.6.1, and RFC 9112, section 6): who changes one smuggles requests.
func isFraming(name string) bool {
	switch name {
	case "content-length", "expect", "http2-settings", "te", "trailer", "upgrade":
		return true
	}
	return false
}
