// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"
)

const waitAtMost = 30 * time.Second

// await waits for a condition of Service.After, but not for ever: the service
// itself may know better.
func await(service, condition string) {
	begin := time.Now()
	for !holds(condition) {
		if time.Since(begin) > waitAtMost {
			say("%s starts without %s", service, condition)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func holds(condition string) bool {
	if socket, ok := strings.CutPrefix(condition, "unix:"); ok {
		conn, err := net.DialTimeout("unix", socket, time.Second)
		return err == nil && conn.Close() == nil
	}
	// Only whether it is ready is asked; who it is matters to who then talks to it.
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // see above
	answer, err := client.Get(condition)
	return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}
