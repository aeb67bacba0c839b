// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// docs/CLI.md is made from the commands themselves; WEFT_UPDATE=1 writes it.
func TestReferenceIsCurrent(t *testing.T) {
	a := &app{env: Env{Stdout: os.Stdout, Stderr: os.Stderr, Now: now, Location: time.UTC, Getenv: func(string) string { return "" }}}
	var b strings.Builder
	b.WriteString("# The `weft` command\n\nWritten by `WEFT_UPDATE=1 go test ./cli/command` from the commands themselves.\n")
	root := a.root()
	root.InitDefaultCompletionCmd()
	reference(&b, root)
	golden(t, "../../docs/CLI.md", b.String())
}

func reference(b *strings.Builder, c *cobra.Command) {
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
	writeText(b, text)
	if len(c.Aliases) > 0 {
		fmt.Fprintf(b, "\nAlso: `%s`\n", strings.Join(c.Aliases, "`, `"))
	}
	if c.Runnable() && !c.HasAvailableSubCommands() {
		fmt.Fprintf(b, "\n```\n%s\n```\n", c.UseLine())
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n```\n%s\n```\n", c.Example)
	}
	flags := c.NonInheritedFlags()
	if flags.HasAvailableFlags() {
		fmt.Fprintf(b, "\n```\n%s```\n", flags.FlagUsages())
	}
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			reference(b, child)
		}
	}
}

// writeText keeps the lines of the table of exit codes as they are.
func writeText(b *strings.Builder, text string) {
	prose, codes, found := strings.Cut(text, exitCodes)
	b.WriteString(strings.TrimSpace(prose) + "\n")
	if found {
		fmt.Fprintf(b, "\n```\n%s\n```\n%s", exitCodes, codes)
	}
}
