// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
)

// l7 converts what an item of toPorts asks for above TCP; nil if that is nothing.
func (c *converter) l7(path string, r *PortRule) *model.L7 {
	if r.Rules == nil && r.ServerNames == nil {
		if r.Audit != nil {
			c.p.add(path+".audit", "there are neither rules nor serverNames that it could be about; remove it")
		}
		return nil
	}
	if r.Rules != nil && r.ServerNames != nil {
		c.p.add(path, "combines rules and serverNames; what is inside TLS cannot be seen, write an item of toPorts for each")
	}
	out := &model.L7{Audit: r.Audit != nil && *r.Audit}
	if r.Rules != nil {
		c.l7Rules(path+".rules", r.Rules, out)
	}
	if r.ServerNames != nil {
		out.ServerNames = c.serverNames(path+".serverNames", r.ServerNames)
	}
	return out
}

// l7Rules converts rules; an empty object or list asks for nothing, but is not left
// to guess.
func (c *converter) l7Rules(path string, r *L7Rules, out *model.L7) {
	n := len(c.p.found)
	c.refuse(path, "kafka", r.Kafka != nil)
	c.refuse(path, "dns", r.DNS != nil)
	c.refuse(path, "l7", r.L7 != nil)
	c.refuse(path, "l7proto", r.L7Proto != "")
	switch {
	case len(c.p.found) > n:
	case r.HTTP != nil && r.GRPC != nil:
		c.p.add(path, "combines http and grpc; write an item of toPorts for each")
	case r.HTTP != nil && len(r.HTTP) == 0:
		c.p.add(path+".http", "is empty; write {} as its item to allow every request, or remove rules")
	case r.GRPC != nil && len(r.GRPC) == 0:
		c.p.add(path+".grpc", "is empty; write {} as its item to allow every call, or remove rules")
	case r.HTTP == nil && r.GRPC == nil:
		c.p.add(path, "is empty; write http or grpc, or remove it")
	}
	for i := range r.HTTP {
		out.HTTP = append(out.HTTP, c.httpRule(fmt.Sprintf("%s.http[%d]", path, i), &r.HTTP[i]))
	}
	for i, g := range r.GRPC {
		at := fmt.Sprintf("%s.grpc[%d]", path, i)
		c.matches(at+".service", g.Service, grpcService, "a service with its package, such as helloworld.Greeter")
		c.matches(at+".method", g.Method, grpcMethod, "a method such as SayHello")
		out.GRPC = append(out.GRPC, model.GRPCRule{Service: g.Service, Method: g.Method})
	}
}

// Forms of names, whole.
const (
	grpcMethod  = `[A-Za-z_][A-Za-z0-9_]*`
	grpcService = grpcMethod + `(\.` + grpcMethod + `)*`
	headerName  = "[!#$%&'*+.^_`|~0-9A-Za-z-]+" // RFC 9110, 5.6.2
	headerValue = `[^\x00-\x1f\x7f]*`
	serverName  = `(\*|[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)(\.(\*|[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?))*`
)

// matches checks the form of what is given at all.
func (c *converter) matches(path, value, form, wanted string) bool {
	if value == "" || whole(form).MatchString(value) {
		return true
	}
	c.p.add(path, "%q is not %s", value, wanted)
	return false
}

func whole(form string) *regexp.Regexp { return regexp.MustCompile("^(?:" + form + ")$") }

func (c *converter) httpRule(path string, r *HTTPRule) model.HTTPRule {
	out := model.HTTPRule{Method: r.Method, Path: r.Path, Host: r.Host}
	c.expression(path+".method", r.Method, neverMethod)
	c.expression(path+".path", r.Path, neverPath)
	c.expression(path+".host", r.Host, neverHost)
	for i, h := range r.Headers {
		at := fmt.Sprintf("%s.headers[%d]", path, i)
		name, value := splitHeader(h)
		out.Headers = append(out.Headers, c.header(at, at, name, value, ""))
	}
	for i := range r.HeaderMatches {
		h, at := &r.HeaderMatches[i], fmt.Sprintf("%s.headerMatches[%d]", path, i)
		c.refuse(at, "secret", h.Secret != nil)
		out.Headers = append(out.Headers, c.header(at+".name", at+".value", h.Name, h.Value, h.Mismatch))
	}
	return out
}

// expression checks a regular expression as it stands: the parentheses put around it
// must not mend one, nor it close them. Of the text that it begins with, or is, never
// says why that is nowhere.
func (c *converter) expression(path, text string, never func(begin string, all bool) string) {
	re, err := regexp.Compile(text)
	if err != nil {
		c.p.add(path, "%q is not a regular expression (RE2): %v", text, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return
	}
	if err := model.CheckExpression(text); err != nil {
		c.p.add(path, "%q cannot be asked of the proxy: %v", text, err)
		return
	}
	begin, all := re.LiteralPrefix()
	if why := never(begin, all && text != ""); why != "" {
		c.p.add(path, "%q matches nothing: %s", text, why)
	}
}

// neverMethod: names of methods are of letters of one case (RFC 9110, 9.1).
func neverMethod(name string, all bool) string {
	if upper := strings.ToUpper(strings.TrimSpace(name)); all && slices.Contains(methods, upper) && upper != name {
		return "methods are written in capitals, " + upper
	}
	return ""
}

var methods = []string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}

// neverPath knows the form of paths (RFC 3986, 3.3), normalised: other characters come as
// % and two digits.
func neverPath(begin string, all bool) string {
	switch {
	case begin == "":
		return ""
	case begin[0] != '/':
		return "a path begins with /"
	case strings.Contains(begin, "?"):
		return "a path is without the query"
	case strings.ContainsFunc(begin, func(r rune) bool { return r <= ' ' || r == '#' || r >= 0x7f }):
		return "there is no blank, no # and nothing but ASCII in a path; a blank is %20"
	}
	if all && !strings.HasSuffix(begin, "/") {
		begin += "/" // so that the last segment ends, too
	}
	for _, gone := range []string{"//", "/./", "/../"} {
		if strings.Contains(begin, gone) {
			return "paths are normalised before, which leaves no " + gone
		}
	}
	return ""
}

// neverHost knows that the port is taken off.
func neverHost(name string, all bool) string {
	if strings.Contains(name, "/") {
		return "there is no / in a host"
	}
	if host, port, found := strings.Cut(name, ":"); all && found && strings.Trim(port, "0123456789") == "" {
		return "a host is without the port, " + host
	}
	return ""
}

// splitHeader reads "Name", "Name: value" or "Name value".
func splitHeader(h string) (name, value string) {
	i := strings.IndexAny(h, ": ")
	if i <= 0 { // a name that begins with a colon is no header's
		return h, ""
	}
	return h[:i], strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(h[i:]), ":"))
}

func (c *converter) header(namePath, valuePath, name, value, mismatch string) model.HeaderMatch {
	actions := map[string]model.Mismatch{"": model.MismatchDeny, "LOG": model.MismatchLog, "ADD": model.MismatchAdd,
		"DELETE": model.MismatchDelete, "REPLACE": model.MismatchReplace}
	action, ok := actions[mismatch]
	out := model.HeaderMatch{Name: strings.ToLower(name), Value: value, Mismatch: action}
	switch err := out.Fault(); {
	case !whole(headerName).MatchString(name):
		c.p.add(namePath, "%q is not the name of a header; for what stands in the request line use method, path and host", name)
	case out.Name == "host":
		c.p.add(namePath, "the header host is what host is about; use that")
	case err != nil:
		c.p.add(namePath, "%q %v", name, err)
	}
	c.matches(valuePath, value, headerValue, "a value without control characters")
	switch {
	case !ok:
		c.p.add(strings.TrimSuffix(namePath, ".name")+".mismatch", "%q is unknown; use LOG, ADD, DELETE or REPLACE", mismatch)
	case value == "" && action != model.MismatchDeny && action != model.MismatchLog:
		c.p.add(valuePath, "is missing; mismatch %s needs the value that the header is to have", mismatch)
	}
	return out
}

func (c *converter) serverNames(path string, names []string) []string {
	if len(names) == 0 {
		c.p.add(path, "is empty; list names, or remove it")
	}
	var out []string
	for i, n := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		lower := strings.ToLower(n)
		switch {
		case n == "":
			c.p.add(at, "is empty; write a name such as www.example.com or *.example.com")
		case len(n) > 253:
			c.p.add(at, "is longer than 253 characters, which no name is")
		default:
			c.matches(at, lower, serverName, "a name such as www.example.com or *.example.com, where * is a whole label")
		}
		out = append(out, lower)
	}
	return out
}

// onlyTCP refuses ports of other protocols: the proxy sees connections of TCP alone,
// and a port of more would let the others pass without the rules.
func (c *converter) onlyTCP(path string, in []PortProtocol) {
	for i := range in {
		if proto, _, ok := protocol(in[i].Protocol); ok && proto != model.ProtoTCP {
			c.p.add(fmt.Sprintf("%s.ports[%d].protocol", path, i), "rules and serverNames are about TCP alone; write TCP")
		}
	}
}
