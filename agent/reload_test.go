// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/config"
)

// Each reading is compared with what runs, not with what the agent began with.
func TestReloadComparesWithWhatIsRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte("nodeName: here\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	running, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	a := &agent{level: new(slog.LevelVar), log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, step := range []struct{ file, said string }{
		{"logLevel: debug\n", "changed=[logLevel] changeAtRestart=[]"},
		{"logLevel: debug\n", "changed=[] changeAtRestart=[]"},
		{"logLevel: debug\nmtu: 1400\n", "changed=[] changeAtRestart=[mtu]"},
		{"mtu: 1400\n", "changed=[logLevel] changeAtRestart=[mtu]"},
		{"mtu: wide\n", "the configuration is faulty, the old one stays"},
		{"", "changed=[] changeAtRestart=[]"},
	} {
		log.Reset()
		write(step.file)
		running = a.reload(running, path)
		if !strings.Contains(log.String(), step.said) {
			t.Errorf("after %q the log is %q, want %q in it", step.file, log.String(), step.said)
		}
		if a.level.Level() != running.LogLevel.Level() {
			t.Errorf("after %q the level is %v, running %v", step.file, a.level, running.LogLevel)
		}
	}
}
