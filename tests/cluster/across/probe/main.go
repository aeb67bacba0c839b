// SPDX-License-Identifier: Apache-2.0

// Command probe is what pods and nodes of the tests run: it answers, tries to reach
// others when it is told to, and sends frames that nobody should believe.
//
//	probe serve NAME             answer on ports 7000 to 7019, and do as 7100 is told
//	probe hammer NAME TARGET…    the same, and from its first instruction on call targets:
//	                             allowed=ADDRESS or forbidden=ADDRESS
//	probe spray NAME MARK MS RANGE…  the same, and send datagrams with a mark to all addresses of
//	                             ranges, each FIRST+COUNT, all MS milliseconds
//	probe ask URL [BODY]         ask port 7100 of another
//	probe try JSON               try from here (Attempts; answers are printed)
//	probe send JSON              send a Frame from here
//	probe rows                   print who this node's kernel takes each address for
//	probe mtu DEVICE MTU         set a device's MTU
//	probe route RANGE VIA        set a route
//	probe unroute RANGE          remove it
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// Ports, and how long who asks waits at most.
const (
	firstPort = 7000
	ports     = 20
	tellPort  = 7100
	askFor    = 60 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return newServer(args[1]).run()
	case len(args) > 2 && args[0] == "hammer":
		return hammer(args[1], args[2:])
	case len(args) > 4 && args[0] == "spray":
		return spray(args[1], args[2], args[3], args[4:])
	case (len(args) == 2 || len(args) == 3) && args[0] == "ask":
		return ask(args[1], strings.Join(args[2:], ""))
	case len(args) == 2 && args[0] == "try":
		return tryHere(args[1])
	case len(args) == 2 && args[0] == "send":
		return sendHere(args[1])
	case len(args) == 1 && args[0] == "rows":
		return rows()
	case len(args) == 3 && args[0] == "mtu":
		return setMTU(args[1], args[2])
	case len(args) == 3 && args[0] == "route":
		return route(args[1], args[2])
	case len(args) == 2 && args[0] == "unroute":
		return unroute(args[1])
	}
	return errors.New("usage: see the comment of the package")
}

func ask(url, body string) error {
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func tryHere(body string) error {
	var attempts []Attempt
	if err := json.Unmarshal([]byte(body), &attempts); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(tryAll(attempts))
}

func sendHere(body string) error {
	var f Frame
	if err := json.Unmarshal([]byte(body), &f); err != nil {
		return err
	}
	return f.send()
}

func setMTU(device, mtu string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("finding %s: %w", device, err)
	}
	n, err := strconv.Atoi(mtu)
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(link, n)
}

func route(prefix, via string) error {
	to, err := netlink.ParseIPNet(prefix)
	if err != nil {
		return err
	}
	gw := net.ParseIP(via)
	if gw == nil {
		return fmt.Errorf("%q is no address", via)
	}
	return netlink.RouteReplace(&netlink.Route{Dst: to, Gw: gw})
}

func unroute(prefix string) error {
	to, err := netlink.ParseIPNet(prefix)
	if err != nil {
		return err
	}
	return netlink.RouteDel(&netlink.Route{Dst: to})
}
