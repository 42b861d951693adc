package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"flannel/bench"
	"flannel/bench/load"
	"flannel/bench/proc"
	"flannel/bench/synth"
)

// rival is a server that flannel is compared with.
type rival struct {
	name string
	// program is what must be installed, packages what to install for it on Debian; "" if it is this one.
	program  string
	packages string
	// does are the scenarios that it can take part in.
	does  []string
	start func(ctx context.Context, a *app, s *scenario) (*bench.Target, func(), error)
}

const (
	// nchanModule is where Debian's package puts it.
	nchanModule = "/usr/lib/nginx/modules/ngx_nchan_module.so"
	// objectBytes is the size of the made-up users' bodies.
	objectBytes = 716
)

var rivals = []rival{
	{name: "reference", does: []string{"idle", "connect", "query", "fanout"}, start: startReference},
	{name: "redis", program: "redis-server", packages: "redis-server", does: []string{"query"}, start: startRedis},
	{name: "memcached", program: "memcached", packages: "memcached", does: []string{"query"}, start: startMemcached},
	{name: "nchan", program: "nginx", packages: "nginx-light libnginx-mod-nchan", does: []string{"idle", "connect", "fanout"}, start: startNchan},
}

// everyRival is --compare without names.
const everyRival = "all"

// chosen returns the rivals that are named, or all that can take part. Of those that were not named, who is not installed
// is left out, and that is said; in CI (CI is set) it is an error, because a comparison that silently shrinks proves less
// every year.
func (f *loadFlags) chosen(scenario string) (chosen []rival, err error) {
	known := make([]string, 0, len(rivals))
	all := slices.Contains(f.compare, everyRival)
	for _, r := range rivals {
		if !slices.Contains(r.does, scenario) {
			continue
		}
		known = append(known, r.name)
		named := slices.Contains(f.compare, r.name)
		if !all && !named {
			continue
		}
		if missing := r.missing(); missing != "" {
			if named || os.Getenv("CI") != "" {
				return nil, errors.New(missing)
			}
			fmt.Fprintf(f.app.stderr, "left out: %s\n", missing)
			continue
		}
		chosen = append(chosen, r)
	}
	for _, name := range f.compare {
		if name != everyRival && !slices.Contains(known, name) {
			return nil, &usageError{fmt.Errorf("%s cannot be compared with %q; there are %s, and %s", scenario, name, strings.Join(known, ", "), everyRival)}
		}
	}
	return chosen, nil
}

// missing says what to install, "" if everything is there.
func (r *rival) missing() string {
	if r.program == "" {
		return ""
	}
	_, err := exec.LookPath(r.program)
	if err == nil && r.name == "nchan" {
		_, err = os.Stat(nchanModule)
	}
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%s is not installed: apt-get install %s", r.name, r.packages)
}

// startReference starts the reference server, which is in this program.
func startReference(ctx context.Context, a *app, s *scenario) (*bench.Target, func(), error) {
	server, line, err := startSelf(ctx, a.stderr, "reference", nil, []string{"bench", "reference", "--boot-bytes", strconv.Itoa(s.bootBytes)})
	if err != nil {
		return nil, nil, err
	}
	t := sameSessions("reference", fmt.Sprint(line["reference"]), server.cmd.Process.Pid, s)
	t.Profile = "http://" + fmt.Sprint(line["admin"])
	return t, server.stop, nil
}

// sameSessions is a target with the sessions, objects and messages that an edge gets, at a server that can be told to
// publish.
func sameSessions(name, address string, pid int, s *scenario) *bench.Target {
	t := &bench.Target{
		Name: name, Address: address, Language: load.Websocket, Until: lastFrame(s.boot), Process: &proc.Process{PID: pid}, IDs: objectIDs(),
		Paths: []string{thinPath(synth.Token(0), s.boot, synth.Channel(0))},
		Publish: func(ctx context.Context, text string) error {
			return post(ctx, "http://"+address+"/publish", synth.Message(text, "1767603600.000001"))
		},
	}
	return t
}

func objectIDs() []string {
	ids := make([]string, benchObjects)
	for i := range ids {
		ids[i] = string(synth.User(i))
	}
	return ids
}

func post(ctx context.Context, address string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // Nobody wants what it says.
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("publish: status %d", resp.StatusCode)
	}
	return nil
}

func startRedis(ctx context.Context, a *app, _ *scenario) (*bench.Target, func(), error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	return startProgram(ctx, a, lookedUp("redis", load.Redis, port), "redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--protected-mode", "no") // Generators come from 127.0.0.2 and on, which it takes for strangers.
}

func startMemcached(ctx context.Context, a *app, _ *scenario) (*bench.Target, func(), error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	// It refuses to run as root unless it is told to.
	return startProgram(ctx, a, lookedUp("memcached", load.Memcached, port), "memcached", "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "0", "-u", "root", "-m", "256")
}

// lookedUp is a target that has objects and nothing else.
func lookedUp(name, language string, port int) *bench.Target {
	return &bench.Target{Name: name, Address: "127.0.0.1:" + strconv.Itoa(port), Language: language, IDs: objectIDs(), ObjectBytes: objectBytes}
}

// nchanConfig is nginx with nchan: one process, as many connections as it may have files, and messages that nobody keeps.
const nchanConfig = `load_module %[1]s;
daemon off;
master_process off;
worker_rlimit_nofile %[4]d;
pid %[2]s/nginx.pid;
error_log stderr error;
events { worker_connections %[4]d; }
http {
	access_log off;
	nchan_shared_memory_size 512M;
	client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/fastcgi; uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;
	server {
		listen 127.0.0.1:%[3]d backlog=4096;
		location = /publish { nchan_publisher; nchan_channel_id bench; nchan_message_timeout 60s; nchan_message_buffer_length 256; }
		location / { nchan_subscriber websocket; nchan_channel_id bench; nchan_subscriber_first_message newest; }
	}
}
`

// startNchan starts nginx. Its sessions have no hello and no boot: what is compared is the connection and the delivery.
func startNchan(ctx context.Context, a *app, s *scenario) (*bench.Target, func(), error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "flannel-nchan-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { os.RemoveAll(dir) } //nolint:errcheck // A left-over temporary folder is nobody's loss.
	config := filepath.Join(dir, "nginx.conf")
	// A tenth more: those who left a moment ago may still be there when the next come.
	files := max(s.sessions+s.sessions/10+fewDescriptors, 1024)
	if err := os.WriteFile(config, fmt.Appendf(nil, nchanConfig, nchanModule, dir, port, files), 0o600); err != nil {
		remove()
		return nil, nil, err
	}
	t := sameSessions("nchan", "127.0.0.1:"+strconv.Itoa(port), 0, s)
	t.Until, t.IDs = "", nil
	t, stop, err := startProgram(ctx, a, t, "nginx", "-c", config, "-p", dir)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return t, func() { stop(); remove() }, nil
}

// freePort is one that nobody has, at this moment.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close() //nolint:errcheck // Nobody has connected.
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// startProgram starts a server that somebody else wrote and waits until it listens at the target's address.
func startProgram(ctx context.Context, a *app, t *bench.Target, program string, args ...string) (*bench.Target, func(), error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = a.stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := func() {
		cmd.Process.Kill() //nolint:errcheck // It has ended.
		<-ended            //nolint:errcheck // It was killed.
	}
	for end := time.Now().Add(startWithin); ; {
		conn, err := net.DialTimeout("tcp", t.Address, time.Second)
		if err == nil {
			conn.Close() //nolint:errcheck // It was only to see.
			t.Process = &proc.Process{PID: cmd.Process.Pid}
			return t, stop, nil
		}
		select {
		case err := <-ended:
			return nil, nil, fmt.Errorf("%s has ended: %w", program, err)
		case <-ctx.Done():
			stop()
			return nil, nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			stop()
			return nil, nil, fmt.Errorf("%s does not listen at %s", program, t.Address)
		}
	}
}
