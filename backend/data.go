package backend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"flannel/backend/store"
	"flannel/backend/store/sqlite"
	"flannel/backend/token"
)

// Names within the data folder. The token key is package token's.
const (
	databaseFile    = "flannel.db"
	lockFile        = "lock"
	upstreamKeyFile = "upstream.key"
)

// ErrInUse: another process has the data folder.
var ErrInUse = errors.New("the data folder is in use by another flannel process")

// OpenStore opens the store of a data folder that no server uses, and makes the folder if there is none. unlock gives
// the folder back, after the store is closed.
func OpenStore(ctx context.Context, data string) (st store.Store, unlock func(), err error) {
	unlock, err = lock(data)
	if err != nil {
		return nil, nil, err
	}
	if st, err = openDatabase(ctx, data); err != nil {
		unlock()
		return nil, nil, err
	}
	return st, unlock, nil
}

// OpenBeside opens the store and the token key of a data folder beside a server that may be running: for reading only.
func OpenBeside(ctx context.Context, data string) (store.Store, *token.Signer, error) {
	if _, err := os.Stat(filepath.Join(data, databaseFile)); err != nil {
		return nil, nil, fmt.Errorf("open data folder %q: %w", data, err)
	}
	st, err := openDatabase(ctx, data)
	if err != nil {
		return nil, nil, err
	}
	signer, err := token.OpenKey(data)
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	return st, signer, nil
}

func openDatabase(ctx context.Context, data string) (store.Store, error) {
	st, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(data, databaseFile), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("open data folder %q: %w", data, err)
	}
	return st, nil
}

// lock makes the folder if there is none and takes it for this process. The system gives it back if the process dies.
func lock(data string) (unlock func(), err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(data, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close() //nolint:errcheck // Nothing was written.
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock data folder %q: %w", data, ErrInUse)
		}
		return nil, fmt.Errorf("lock data folder %q: %w", data, err)
	}
	return func() { f.Close() }, nil //nolint:errcheck // Closing is what unlocks; nothing was written.
}

// openUpstreamKey returns the service key that is kept in the folder, and makes one if there is none. The folder is
// locked.
func openUpstreamKey(data string) (string, error) {
	path := filepath.Join(data, upstreamKeyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := rand.Text()
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			return "", fmt.Errorf("make service key: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return "", fmt.Errorf("read service key: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if len(key) < minKey {
		return "", fmt.Errorf("read service key %q: shorter than %d characters", path, minKey)
	}
	return key, nil
}
