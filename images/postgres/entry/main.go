// Entry makes a database cluster where there is none yet, and becomes the PostgreSQL server. Its arguments are the server's.
//
//	POSTGRES_PASSWORD       the first user's password; needed only while there is no cluster
//	POSTGRES_PASSWORD_FILE  or the file that has it
//	POSTGRES_USER           the first user, a superuser (postgres)
//	POSTGRES_DB             the first database (named like the user)
//
// It exits with 2 when a setting is missing or cannot be used, or when the data are of another version.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	version  = "17"
	programs = "/usr/lib/postgresql/" + version + "/bin/"
	config   = "/config/postgresql.conf"
	password = "/tmp/password"
)

func main() {
	// The server's log goes to stderr, which no setting changes.
	if err := syscall.Dup3(1, 2, 0); err != nil {
		os.Exit(1)
	}
	data := os.Getenv("PGDATA")
	if data == "" {
		data = "/data/" + version
	}
	err := prepare(data)
	if err == nil {
		words := append([]string{"postgres", "-D", data, "-c", "config_file=" + config}, os.Args[1:]...)
		err = syscall.Exec(programs+"postgres", words, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "postgres:", err)
	if refused := (refusal)(""); errors.As(err, &refused) {
		os.Exit(2)
	}
	os.Exit(1)
}

// A refusal is an error that a person's settings or data are the cause of.
type refusal string

func (text refusal) Error() string { return string(text) }

// prepare makes the cluster if there is none: under another name, so that one that was begun and not finished is none.
func prepare(data string) error {
	there, err := cluster(data)
	if err != nil || there {
		return err
	}
	first, err := read(os.Getenv, os.ReadFile)
	if err != nil {
		return err
	}
	begun := data + ".begun"
	if err := os.RemoveAll(begun); err != nil {
		return err
	}
	if err := create(begun, first); err != nil {
		return err
	}
	if err := os.Rename(begun, data); err != nil {
		return err
	}
	return sync(filepath.Dir(data))
}

// cluster tells whether there is a cluster, of this version.
func cluster(data string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(data)
		if len(entries) > 0 {
			return false, refusal(data + " has files, but no database cluster: give it a volume of its own")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		return false, others(data)
	}
	if err != nil {
		return false, err
	}
	if found := strings.TrimSpace(string(text)); found != version {
		return false, refusal(fmt.Sprintf("%s has data of PostgreSQL %s, this is %s: upgrade them with pg_upgrade, or use the image for %s",
			data, found, version, found))
	}
	return true, nil
}

// others refuses to begin anew beside a cluster of another version, of which somebody thinks that it is used.
func others(data string) error {
	beside, err := filepath.Glob(filepath.Join(filepath.Dir(data), "*", "PG_VERSION"))
	for _, file := range beside {
		if folder := filepath.Dir(file); folder != data && !strings.HasSuffix(folder, ".begun") {
			return refusal(fmt.Sprintf("%s has a database cluster, and %s none: upgrade it with pg_upgrade, or set PGDATA to where a new one shall be",
				folder, data))
		}
	}
	return err
}

func create(data string, first settings) error {
	if err := os.WriteFile(password, []byte(first.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("%w; with a read-only root it needs a tmpfs there", err)
	}
	defer os.Remove(password)
	err := run("", programs+"initdb", "--pgdata="+data, "--username="+first.user, "--pwfile="+password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--data-checksums", "--no-instructions")
	if err != nil || first.database == "postgres" {
		return err
	}
	return run("CREATE DATABASE "+quoted(first.database)+" OWNER "+quoted(first.user)+"\n",
		programs+"postgres", "--single", "-D", data, "postgres")
}

func run(input string, words ...string) error {
	command := exec.Command(words[0], words[1:]...)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", words[0], err)
	}
	return nil
}

// sync makes what was renamed in a folder survive a loss of power.
func sync(folder string) error {
	opened, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer opened.Close()
	return opened.Sync()
}
