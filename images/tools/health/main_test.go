package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestExitCodeSaysWhoIsToBlame(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(answer))
	defer web.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(answer))
	defer secure.Close()
	address := strings.TrimPrefix(web.URL, "http://")
	dns := serveDNS(t)
	nobody := unusedAddress(t)

	for _, test := range []struct {
		args string
		code int
		says string // in stderr
	}{
		{"http " + web.URL, healthy, ""},
		{"http " + secure.URL, healthy, ""},
		{"http -status 204 " + web.URL + "/204", healthy, ""},
		{"http " + web.URL + "/204 -status 204", healthy, ""},
		{"http -status 302 " + web.URL + "/redirect", healthy, ""},
		{"http " + web.URL + "/503", unhealthy, "/503 answered 503 Service Unavailable, not 200"},
		{"http " + web.URL + "/cut", unhealthy, "unexpected EOF"},
		{"http -timeout 50ms " + web.URL + "/slow", unhealthy, "deadline exceeded"},
		{"http http://" + nobody, unhealthy, "connection refused"},

		{"tcp " + address, healthy, ""},
		{"tcp " + nobody, unhealthy, "connection refused"},

		{"dns -server " + dns + " desimages.example", healthy, ""},
		{"dns -server " + dns + " nowhere.example", unhealthy, "lookup nowhere.example. on " + dns + ": no such host"},
		{"dns -server " + nobody + " -timeout 200ms desimages.example", unhealthy, nobody},
		{"dns -server " + dns + " localhost", unhealthy, "no such host"}, // /etc/hosts knows it

		{"", misused, "say http, tcp or dns"},
		{"icmp 127.0.0.1", misused, `"icmp" is not http, tcp or dns`},
		{"http", misused, "http takes one argument, not 0"},
		{"http " + web.URL + " " + web.URL, misused, "http takes one argument, not 2"},
		{"http ftp://127.0.0.1", misused, "not an http or https URL"},
		{"http 127.0.0.1:80/health", misused, "first path segment in URL cannot contain colon"},
		{"http -status ok " + web.URL, misused, `invalid value "ok" for flag -status`},
		{"http -timeout 0s " + web.URL, misused, "leaves no time"},
		{"tcp -status 200 " + address, misused, "flag provided but not defined: -status"},
		{"tcp 127.0.0.1", misused, "missing port in address"},
	} {
		t.Run(test.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(strings.Fields(test.args), &stdout, &stderr)
			if code != test.code || !strings.Contains(stderr.String(), test.says) {
				t.Errorf("exit code %d and %q; want %d and %q", code, stderr.String(), test.code, test.says)
			}
			if lines := strings.Count(stderr.String(), "\n"); code == unhealthy && lines != 1 || code == healthy && lines != 0 {
				t.Errorf("%d lines on stderr: %q", lines, stderr.String())
			}
			if stdout.Len() != 0 {
				t.Errorf("stdout: %q", stdout.String())
			}
		})
	}
}

func TestHelpIsNotAMistake(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"http", "-h"}} {
		var stdout, stderr bytes.Buffer
		if code := run(args, &stdout, &stderr); code != healthy || stdout.String() != usage || stderr.Len() != 0 {
			t.Errorf("%q: exit code %d, %q, %q", args, code, stdout.String(), stderr.String())
		}
	}
}

// answer does what the path says.
func answer(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/204":
		w.WriteHeader(http.StatusNoContent)
	case "/503":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "/redirect":
		http.Redirect(w, r, "/503", http.StatusFound)
	case "/cut":
		w.Header().Set("Content-Length", "100")
		w.Write([]byte("half of"))
	case "/slow":
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	}
}

// unusedAddress is one where nobody listens.
func unusedAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// serveDNS knows one name, desimages.example, whose address is 192.0.2.1. https://www.rfc-editor.org/rfc/rfc1035#section-4
func serveDNS(t *testing.T) string {
	connection, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	go func() {
		const header, response, nameError, typeA = 12, 0x8180, 3, 1
		for {
			packet := make([]byte, 512)
			n, client, err := connection.ReadFrom(packet)
			if err != nil {
				return
			}
			end := header + bytes.IndexByte(packet[header:n], 0) + 1
			reply := append([]byte{}, packet[:end+4]...)
			clear(reply[6:header]) // counts of what follows the question: none yet
			binary.BigEndian.PutUint16(reply[2:], response)
			switch {
			case !bytes.Equal(packet[header:end], []byte("\x09desimages\x07example\x00")):
				binary.BigEndian.PutUint16(reply[2:], response|nameError)
			case binary.BigEndian.Uint16(packet[end:]) == typeA:
				binary.BigEndian.PutUint16(reply[6:], 1)
				reply = append(reply, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"...)
			}
			connection.WriteTo(reply, client)
		}
	}()
	return connection.LocalAddr().String()
}
