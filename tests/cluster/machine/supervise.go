// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// serviceEnv is in the environment of a service; its value is the name.
	serviceEnv = "WEFT_SERVICE"
	// restartAfter is the time from a service's end to its next start.
	restartAfter = time.Second
)

// supervisor keeps services running.
type supervisor struct {
	logs *os.Root
	// mu is held from the fork of a service to its entry in running, so that who
	// learns of its end finds it there.
	mu      sync.Mutex
	running map[int]Service
}

// run starts the services and, when one ends, starts it again. It does not return.
func (s *supervisor) run(services []Service) {
	for _, service := range services {
		go func() { // ends with the machine
			for _, c := range service.After {
				await(service.Name, c)
			}
			s.start(service)
		}()
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil { // no child at this moment
			time.Sleep(20 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		service, ok := s.running[pid]
		delete(s.running, pid)
		s.mu.Unlock()
		if ok { // else an orphan of some other process
			say("%s ended: exit status %d, signal %d", service.Name, status.ExitStatus(), status.Signal())
			time.AfterFunc(restartAfter, func() { s.start(service) })
		}
	}
}

// start starts a service; one that cannot be started is tried again.
func (s *supervisor) start(service Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := s.fork(service)
	if err != nil {
		say("starting %s: %v", service.Name, err)
		time.AfterFunc(restartAfter, func() { s.start(service) })
		return
	}
	s.running[pid] = service
	say("%s is process %d in here", service.Name, pid)
}

func (s *supervisor) fork(service Service) (int, error) {
	path, err := exec.LookPath(service.Args[0])
	if err != nil {
		return 0, err
	}
	log, err := s.logs.OpenFile(service.Name+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer func() { _ = null.Close() }()
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, inGroups) })
	return syscall.ForkExec(path, service.Args, &syscall.ProcAttr{
		Dir: "/", Env: append(append(env, serviceEnv+"="+service.Name), service.Env...),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
}

func say(format string, args ...any) {
	fmt.Printf("%s %s\n", time.Now().Format(time.RFC3339Nano), fmt.Sprintf(format, args...))
}
