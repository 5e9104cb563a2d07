package main

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

func environment(words ...string) func(string) string {
	given := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		given[name] = value
	}
	return func(name string) string { return given[name] }
}

func file(name string) ([]byte, error) {
	if name != "/users" {
		return nil, errors.New("open " + name + ": no such file")
	}
	return []byte("# of the family\nalice:it's: a secret \r\n\nbob:x"), nil
}

func TestUsersAreTaken(t *testing.T) {
	want := []user{{"alice", "it's: a secret "}, {"bob", "x"}}
	for _, given := range []string{"USERS_FILE=/users", "USERS=alice:it's: a secret \nbob:x\n"} {
		if users, err := read(environment(given), file); err != nil || !slices.Equal(users, want) {
			t.Errorf("%s: %v, %v", given, users, err)
		}
	}
	if text := string(passwd(want, 7, 8)); text != "alice:*:7:8:alice:/data:/usr/sbin/nologin\nbob:*:7:8:bob:/data:/usr/sbin/nologin\n" {
		t.Error(text)
	}
}

func TestWhatCannotBeUsedIsRefusedWithAllMistakesAndNoPassword(t *testing.T) {
	for _, test := range []struct {
		given []string
		says  []string
	}{
		{nil, []string{"there are no users"}},
		{[]string{"USERS=\n# none\n"}, []string{"there are no users"}},
		{[]string{"USERS=a:b", "USERS_FILE=/users"}, []string{"both set"}},
		{[]string{"USERS_FILE=/none"}, []string{"USERS_FILE: open /none"}},
		{[]string{"USERS=secret\nA:secret\nalice:\nroot:secret\nbob:secret\nbob:secret"},
			[]string{"line 1 must be", "line 2 must be", "line 3: alice needs a password", "line 4: root is", "line 6: bob is there twice"}},
	} {
		_, err := read(environment(test.given...), file)
		var mistakes refusal
		if !errors.As(err, &mistakes) || len(mistakes) != len(test.says) {
			t.Errorf("%v: %v", test.given, err)
			continue
		}
		for number, says := range test.says {
			if !strings.Contains(mistakes[number], says) || strings.Contains(mistakes[number], "secret") {
				t.Errorf("%v: %q does not say %q", test.given, mistakes[number], says)
			}
		}
	}
}

func TestTheFoldersOfSharesAreThoseOnTheVolumeThatHaveOneName(t *testing.T) {
	text, err := os.ReadFile("../config/smb.conf")
	if err != nil {
		t.Fatal(err)
	}
	if found := shares(string(text)); !slices.Equal(found, []string{"/data/share", "/data/timemachine"}) {
		t.Error(found)
	}
	if found := shares("path = /data/%U\n# path = /data/a\npath = /elsewhere\n\tpath=/data/b c/ \n"); !slices.Equal(found, []string{"/data/b c"}) {
		t.Error(found)
	}
}

// answer is what a server says to question().
func answer(change func([]byte)) []byte {
	said := make([]byte, 4+64+65)
	copy(said[4:], "\xfeSMB")
	binary.LittleEndian.PutUint16(said[4+68:], 0x0210)
	change(said)
	return said
}

func TestOnlyAServerThatSpeaksSMBIsHealthy(t *testing.T) {
	for name, test := range map[string]struct {
		said []byte
		says string
	}{
		"well":          {answer(func([]byte) {}), ""},
		"status":        {answer(func(said []byte) { said[4+8] = 1 }), "status"},
		"other dialect": {answer(func(said []byte) { said[4+68] = 2 }), "dialect"},
		"not SMB":       {[]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\nServer: some\r\n\r\n"), "does not speak"},
		"short":         {[]byte("220 "), "EOF"},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			got := make([]byte, len(question()))
			if _, err := connection.Read(got); err == nil {
				connection.Write(test.said)
			}
			connection.Close()
		}()
		err = healthy(listener.Addr().String())
		listener.Close()
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := healthy("127.0.0.1:1"); err == nil {
		t.Error("nobody is healthy")
	}
}
