// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"
)

// A port of TCP with what more is asked.
func item(more string) string { return `{ports: [{port: "80", protocol: TCP}], ` + more + `}` }

func TestConversionOfL7(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"HTTP, matched whole, of names in lower case": {
			object(`{endpointSelector: {}, ingress: [{toPorts: [` + item(`rules: {http: [{method: GET, path: /a/.*, host: 'a\.b', headers: [X-A, "X-B : v w", X-C z, "X-D:"], `+
				`headerMatches: [{name: X-E, value: v}, {name: x-f}, {name: x-g, value: v, mismatch: LOG}, {name: x-h, value: v, mismatch: ADD}, {name: x-i, value: v, mismatch: DELETE}, {name: x-j, value: v, mismatch: REPLACE}]}, {}]}`) + `]}]}`),
			head + ", isolates ingress\ningress[0].toPorts[0]: allow [any] [6/80-80] {HTTP:[{Method:GET Path:/a/.* Host:a\\.b Headers:[" +
				"{Name:x-a Value: Mismatch:0} {Name:x-b Value:v w Mismatch:0} {Name:x-c Value:z Mismatch:0} {Name:x-d Value: Mismatch:0} " +
				"{Name:x-e Value:v Mismatch:0} {Name:x-f Value: Mismatch:0} {Name:x-g Value:v Mismatch:1} {Name:x-h Value:v Mismatch:2} {Name:x-i Value:v Mismatch:3} {Name:x-j Value:v Mismatch:4}]} " +
				"{Method: Path: Host: Headers:[]}] GRPC:[] ServerNames:[] Audit:false}\n",
		},
		"gRPC, in audit": {
			object(`{endpointSelector: {}, egress: [{toEntities: [all], toPorts: [` + item(`audit: true, rules: {grpc: [{service: a.B, method: C}, {}]}`) + `]}]}`),
			head + ", isolates egress\negress[0].toPorts[0]: allow [all] [6/80-80] {HTTP:[] GRPC:[{Service:a.B Method:C} {Service: Method:}] ServerNames:[] Audit:true}\n",
		},
		"names of servers": {
			object(`{endpointSelector: {}, egress: [{toPorts: [` + item(`audit: false, serverNames: [WWW.example.com, "*.example.com", "*"]`) + `]}]}`),
			head + ", isolates egress\negress[0].toPorts[0]: allow [any] [6/80-80] {HTTP:[] GRPC:[] ServerNames:[www.example.com *.example.com *] Audit:false}\n",
		},
		"only items that ask for more become rules of their own": {
			object(`{endpointSelector: {}, ingress: [{fromEntities: [host], toPorts: [{ports: [{port: "1"}]}, ` + item(`rules: {http: [{}]}`) + `, {ports: [{port: "2"}]}, ` + item(`rules: {grpc: [{}]}`) + `]}, {}]}`),
			head + ", isolates ingress\ningress[0]: allow [host] [0/1-1 0/2-2]\n" +
				"ingress[0].toPorts[1]: allow [host] [6/80-80] {HTTP:[{Method: Path: Host: Headers:[]}] GRPC:[] ServerNames:[] Audit:false}\n" +
				"ingress[0].toPorts[3]: allow [host] [6/80-80] {HTTP:[] GRPC:[{Service: Method:}] ServerNames:[] Audit:false}\n" +
				"ingress[1]: allow [] []\n",
		},
		"expressions that may match after all": {
			object(`{endpointSelector: {}, ingress: [{toPorts: [` + item(`rules: {http: [{method: '(?i)get', path: 'items|/a/', host: 'web(:9000)?'}, {method: "", path: /a/.., host: '\[::1\]'}, {method: brew, path: /}]}`) + `]}]}`),
			head + ", isolates ingress\ningress[0].toPorts[0]: allow [any] [6/80-80] {HTTP:[{Method:(?i)get Path:items|/a/ Host:web(:9000)? Headers:[]} " +
				"{Method: Path:/a/.. Host:\\[::1\\] Headers:[]} {Method:brew Path:/ Host: Headers:[]}] GRPC:[] ServerNames:[] Audit:false}\n",
		},
		"every port of TCP, and one by name": {
			object(`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "0", protocol: TCP}, {port: http, protocol: TCP}], rules: {grpc: [{}]}}]}]}`),
			head + ", isolates ingress\ningress[0].toPorts[0]: allow [any] [6/0-65535 6/http] {HTTP:[] GRPC:[{Service: Method:}] ServerNames:[] Audit:false}\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(t, test.in)
			if err != nil {
				t.Fatal(err)
			}
			if text := describe(got); text != test.want {
				t.Errorf("got\n%swant\n%s", text, test.want)
			}
		})
	}
}

func TestFaultsOfL7AreNamed(t *testing.T) {
	long := strings.Repeat("a", 254)
	for name, test := range map[string]struct{ in, want string }{
		"expression":                 {`rules: {http: [{path: "/a["}]}`, `rules.http[0].path: "/a[" is not a regular expression (RE2): missing closing ]: ` + "`[`"},
		"half an expression":         {`rules: {http: [{method: "a)|(b"}]}`, `rules.http[0].method: "a)|(b" is not a regular expression`},
		"what RE2 has not":           {`rules: {http: [{host: "(?=a)"}]}`, `rules.http[0].host: "(?=a)" is not a regular expression (RE2): invalid or unsupported Perl syntax`},
		"a method in small letters":  {`rules: {http: [{method: get}]}`, `rules.http[0].method: "get" matches nothing: methods are written in capitals, GET`},
		"a path without a slash":     {`rules: {http: [{path: items/.*}]}`, `rules.http[0].path: "items/.*" matches nothing: a path begins with /`},
		"a path with a query":        {`rules: {http: [{path: '/a\?b=.*'}]}`, `rules.http[0].path: "/a\\?b=.*" matches nothing: a path is without the query`},
		"a path with a blank":        {`rules: {http: [{path: /a b}]}`, `rules.http[0].path: "/a b" matches nothing: there is no blank, no # and nothing but ASCII in a path`},
		"a path before it is normal": {`rules: {http: [{path: "/a//b.*"}]}`, `rules.http[0].path: "/a//b.*" matches nothing: paths are normalised before, which leaves no //`},
		"a path that goes up":        {`rules: {http: [{path: '/a/\.\.'}]}`, `matches nothing: paths are normalised before, which leaves no /../`},
		"a host with a port":         {`rules: {http: [{host: "web:9000"}]}`, `rules.http[0].host: "web:9000" matches nothing: a host is without the port, web`},
		"a great expression":         {`rules: {http: [{path: '/\pL{1000}'}]}`, `rules.http[0].path: "/\\pL{1000}" cannot be asked of the proxy: the expression becomes`},
		"a method with a blank":      {`rules: {http: [{method: "GET "}]}`, `rules.http[0].method: "GET " matches nothing: methods are written in capitals, GET`},
		"a path with other letters":  {`rules: {http: [{path: /ä}]}`, `rules.http[0].path: "/ä" matches nothing: there is no blank`},
		"a host with a scheme":       {`rules: {http: [{host: "http://x"}]}`, `rules.http[0].host: "http://x" matches nothing: there is no / in a host`},
		"header of one connection":   {`rules: {http: [{headers: ["Connection: close"]}]}`, `rules.http[0].headers[0]: "Connection" is of one connection alone`},
		"value with a blank":         {`rules: {http: [{headerMatches: [{name: a, value: "b "}]}]}`, `rules.http[0].headerMatches[0].name: "a" is to have a value with blanks at an end`},
		"two kinds":                  {`rules: {http: [{}], grpc: [{}]}`, `rules: combines http and grpc; write an item of toPorts for each`},
		"rules and names":            {`rules: {http: [{}]}, serverNames: [a]`, `combines rules and serverNames; what is inside TLS cannot be seen`},
		"empty rules":                {`rules: {}`, `rules: is empty; write http or grpc, or remove it`},
		"empty http":                 {`rules: {http: []}`, `rules.http: is empty; write {} as its item to allow every request, or remove rules`},
		"empty grpc":                 {`rules: {grpc: []}`, `rules.grpc: is empty; write {} as its item to allow every call`},
		"empty names":                {`serverNames: []`, `serverNames: is empty; list names, or remove it`},
		"audit of nothing":           {`audit: false`, `audit: there are neither rules nor serverNames`},
		"gRPC service":               {`rules: {grpc: [{service: /a.B}]}`, `rules.grpc[0].service: "/a.B" is not a service with its package, such as helloworld.Greeter`},
		"gRPC method":                {`rules: {grpc: [{method: a.B}]}`, `rules.grpc[0].method: "a.B" is not a method such as SayHello`},
		"pseudo header":              {`rules: {http: [{headers: [":path: /a"]}]}`, `rules.http[0].headers[0]: ":path: /a" is not the name of a header; for what stands in the request line use method, path and host`},
		"header of framing":          {`rules: {http: [{headerMatches: [{name: Content-Length, value: "3", mismatch: REPLACE}]}]}`, `rules.http[0].headerMatches[0].name: "Content-Length" cannot be changed, as it says how the request goes on; leave mismatch out, or use LOG`},
		"header of the proxy":        {`rules: {http: [{headers: ["x-envoy-a: b"]}]}`, `rules.http[0].headers[0]: "x-envoy-a" is a header of the proxy's own`},
		"header":                     {`rules: {http: [{headerMatches: [{name: a b}]}]}`, `rules.http[0].headerMatches[0].name: "a b" is not the name of a header`},
		"host as a header":           {`rules: {http: [{headerMatches: [{name: Host, value: a}]}]}`, `rules.http[0].headerMatches[0].name: the header host is what host is about; use that`},
		"line end in a value":        {`rules: {http: [{headerMatches: [{name: a, value: "b\nc"}]}]}`, `rules.http[0].headerMatches[0].value: "b\nc" is not a value without control characters`},
		"mismatch":                   {`rules: {http: [{headerMatches: [{name: a, value: b, mismatch: DROP}]}]}`, `rules.http[0].headerMatches[0].mismatch: "DROP" is unknown; use LOG, ADD, DELETE or REPLACE`},
		"nothing to add":             {`rules: {http: [{headerMatches: [{name: a, mismatch: ADD}]}]}`, `rules.http[0].headerMatches[0].value: is missing; mismatch ADD needs the value`},
		"a part of a label":          {`serverNames: ["a*.b"]`, `serverNames[0]: "a*.b" is not a name such as www.example.com or *.example.com`},
		"a name of another's form":   {`serverNames: ["a..b"]`, `serverNames[0]: "a..b" is not a name`},
		"no name":                    {`serverNames: [""]`, `serverNames[0]: is empty; write a name`},
		"a long name":                {`serverNames: [` + long + `]`, `serverNames[0]: is longer than 253 characters`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode(t, object(`{endpointSelector: {}, ingress: [{toPorts: [`+item(test.in)+`]}]}`))
			if err == nil || !strings.HasPrefix(err.Error(), "spec.ingress[0].toPorts[0]") || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
		})
	}
	for _, proto := range []string{"", ", protocol: ANY", ", protocol: UDP", ", protocol: SCTP"} {
		_, err := decode(t, object(`{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: "80", protocol: TCP}, {port: "80"`+proto+`}], rules: {http: [{}]}}]}]}`))
		if want := "spec.egress[0].toPorts[0].ports[1].protocol: rules and serverNames are about TCP alone; write TCP"; err == nil || err.Error() != want {
			t.Errorf("%q: got %v", proto, err)
		}
	}
}
