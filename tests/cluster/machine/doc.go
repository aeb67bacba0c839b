// SPDX-License-Identifier: Apache-2.0

// Package machine makes a computer out of namespaces: a process that is PID 1
// of its own PID, network, mount, UTS and IPC (and, for a node, cgroup)
// namespaces, starts the services of its Spec and starts them again when they
// end. None of its namespaces has a name, and what it mounts only it sees: when
// PID 1 is killed, everything goes, whatever ran inside. Only its folder and the
// cgroups remain, which Remove takes away.
//
// A machine lives in a folder:
//
//	machine.json  its Spec
//	process.json  PID 1, as the machine outside knows it
//	log/          what PID 1 and each service print
//	disk/         what Spec.Disk keeps over a reboot
//	root/         an empty folder, where its root file system is put together
package machine
