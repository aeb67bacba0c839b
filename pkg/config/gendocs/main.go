// SPDX-License-Identifier: Apache-2.0

// Command gendocs writes the reference of the agent's configuration from the
// comments and defaults of its Go type, and that of the chart's values from theirs.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	source := flag.String("config", "config.go", "Go file of the Config type")
	values := flag.String("values", "values.yaml", "file with the chart's values")
	doc := flag.String("doc", "docs/CONFIGURATION.md", "file to write")
	flag.Parse()
	if err := run(*source, *values, *doc); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(source, values, doc string) error {
	text, err := render(source)
	if err != nil {
		return err
	}
	table, err := renderValues(values)
	if err != nil {
		return err
	}
	text += table
	if err := os.WriteFile(doc, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the reference: %w", err)
	}
	return nil
}
