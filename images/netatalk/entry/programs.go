package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// The time from SIGTERM until what has not ended is left to the kernel.
const patience = 8 * time.Second

// serve runs programs until one of them ends, or until SIGTERM or SIGINT; then the others end too. It is an error if it
// was not a signal that ended them. As the first process of a container it is the parent of all that lost theirs.
func serve(programs ...[]string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	names := map[int]string{}
	for _, words := range programs {
		process, err := os.StartProcess(words[0], words, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err != nil {
			stop(names)
			return err
		}
		names[process.Pid] = filepath.Base(words[0])
	}
	ended := make(chan error, 1) // of the first of them
	gone := make(chan bool)      // all
	go reap(names, ended, gone)
	var failed error
	select {
	case <-told:
	case failed = <-ended:
	}
	stop(names)
	select {
	case <-gone:
	case <-time.After(patience):
	}
	return failed
}

func reap(names map[int]string, ended chan<- error, gone chan<- bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil { // there are no more
			close(gone)
			return
		}
		if name, own := names[pid]; own {
			how := fmt.Sprintf("with %d", status.ExitStatus())
			if status.Signaled() {
				how = "by " + status.Signal().String()
			}
			select {
			case ended <- fmt.Errorf("%s ended %s", name, how):
			default: // another one was first
			}
		}
	}
}

// stop ends the programs. The first process of a container may ask all that are in it: what a program has started, and
// would leave alone, has files to close.
func stop(names map[int]string) {
	if os.Getpid() == 1 {
		syscall.Kill(-1, syscall.SIGTERM)
		return
	}
	for pid := range names {
		syscall.Kill(pid, syscall.SIGTERM)
	}
}
