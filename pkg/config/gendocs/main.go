// SPDX-License-Identifier: Apache-2.0

// Command gendocs writes the reference of the agent's configuration from the
// comments and defaults of its Go type.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	source := flag.String("config", "config.go", "Go file of the Config type")
	doc := flag.String("doc", "docs/CONFIGURATION.md", "file to write")
	flag.Parse()
	if err := run(*source, *doc); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(source, doc string) error {
	text, err := render(source)
	if err != nil {
		return err
	}
	if err := os.WriteFile(doc, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the reference: %w", err)
	}
	return nil
}
