// SPDX-License-Identifier: Apache-2.0

// Package script is what a test and the init of its virtual machine agree on.
package script

// PlanFile is where the init finds its Plan, as JSON.
const PlanFile = "/plan.json"

// Beginnings of the lines that the init writes to the console.
const (
	ResultMark  = "weft-vm result: "  // then name, exit status and seconds
	TroubleMark = "weft-vm trouble: " // then what kept the plan from being carried out
)

// Plan is what the machine does before it powers off.
type Plan struct {
	Modules  []string // paths of kernel modules, in the order of loading
	Commands []Command
}

// Command is run after the ones before it have ended.
type Command struct {
	Name          string // one word
	Dir           string
	Args          []string
	Env           []string
	WithinSeconds int
}
