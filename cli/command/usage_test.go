// SPDX-License-Identifier: Apache-2.0

package command

import (
	"slices"
	"strings"
	"testing"
)

func TestWrongUsageIsExplained(t *testing.T) {
	for _, test := range []struct{ args, message, see string }{
		{"observe foo", `unexpected argument "foo"`, "weft observe"},
		{"observe --last -1", `"-1" for "--last" flag: want a number from 0`, "weft observe"},
		{"observe --port 70000", `--port: "70000": want a number from 0 to 65535`, "weft observe"},
		{"observe --identity hosst", `--identity: "hosst": want a number or one of health, host,`, "weft observe"},
		{"endpoint lst", `unknown command "lst" for "weft endpoint"`, "weft endpoint"},
		{"policy list --entry", "unknown flag: --entry", "weft policy list"},
		{"observe --service shop/web:80", `--service: "shop/web:80": a service is named without its port: shop/web`, "weft observe"},
		{"service describe", "name one service as NAMESPACE/NAME, such as default/web", "weft service describe"},
		{"service describe a/b c/d", "name one service as NAMESPACE/NAME", "weft service describe"},
		{"service describe web", `"web" does not name a service`, "weft service describe"},
		{"status --timeout 0", "--timeout 0s: want a time above zero", "weft status"},
	} {
		got := run(t, "", strings.Fields(test.args)...)
		if got.code != ExitUsage || !strings.Contains(got.stderr, test.message) || !strings.Contains(got.stderr, "See "+test.see+" --help.") ||
			strings.Contains(got.stderr, "strconv") {
			t.Errorf("%s: exit %d: %s", test.args, got.code, got.stderr)
		}
	}
}

func TestVersionFlag(t *testing.T) {
	if got := run(t, "", "--version"); got.code != ExitOK || got.stdout != "weft 1.2.3\n" {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

func TestShortNamesOfCommands(t *testing.T) {
	socket := serve(t, &agent{})
	for short, long := range map[string]string{"ep ls": "endpoint list", "identities list": "identity list", "policies list": "policy list"} {
		a, b := run(t, socket, strings.Fields(short)...), run(t, socket, strings.Fields(long)...)
		if a.code != ExitOK || a.stdout != b.stdout {
			t.Errorf("%s: exit %d: %s%s", short, a.code, a.stdout, a.stderr)
		}
	}
}

func TestIdentitiesByName(t *testing.T) {
	a := &agent{}
	socket := serve(t, a)
	if got := run(t, socket, "observe", "--identity", "world,reserved:host,300"); got.code != ExitOK {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	if got := a.request().GetInclude()[0].GetIdentity(); !slices.Equal(got, []uint32{3, 4, 1, 300}) {
		t.Errorf("asked for %v", got)
	}
}
