package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	patience = 8 * time.Second  // from SIGTERM until what has not ended is left to the kernel
	limit    = 20 * time.Second // until a program is there for others; an emulator is slow
)

// A program, and the file that is there when others may use it; a program without one is not waited for.
type program struct {
	words []string
	makes string
}

// await waits for the file.
func (one program) await() error {
	for deadline := time.Now().Add(limit); one.makes != ""; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(one.makes); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not make %s within %s", filepath.Base(one.words[0]), one.makes, limit)
		}
	}
	return nil
}

// serve runs programs, each when what the one before it makes is there, until one of them ends, or until SIGTERM or
// SIGINT; then the others end too. It is an error if it was not a signal that ended them. As the first process of a
// container it is the parent of all that lost theirs.
func serve(programs ...program) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	names := map[int]string{}
	for _, one := range programs {
		process, err := os.StartProcess(one.words[0], one.words, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err == nil {
			names[process.Pid] = filepath.Base(one.words[0])
			err = one.await()
		}
		if err != nil {
			stop(names)
			return err
		}
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
