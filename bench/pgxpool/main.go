// pgxpool borrows and returns connections of pgx's pool in many goroutines, for bench/compare.
//
//	pgxpool GOROUTINES CONNECTIONS SECONDS CONNECTION-STRING
//
// Prints the result as a JSON object, as the program `callers` does.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v4/pgxpool"
)

const (
	warmUp = iota
	measure
	end
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgxpool:", err)
		os.Exit(1)
	}
}

func number(argument string) float64 {
	value, err := strconv.ParseFloat(argument, 64)
	check(err)
	return value
}

func borrow(pool *pgxpool.Pool, phase *int32, all, measured *int64) {
	var count, total int64
	for {
		now := atomic.LoadInt32(phase)
		if now == end {
			break
		}
		connection, err := pool.Acquire(context.Background())
		check(err)
		connection.Release()
		total++
		if now == measure {
			count++
		}
	}
	atomic.AddInt64(all, total)
	atomic.AddInt64(measured, count)
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: pgxpool GOROUTINES CONNECTIONS SECONDS CONNECTION-STRING")
		os.Exit(2)
	}
	seconds := time.Duration(number(os.Args[3]) * float64(time.Second))
	config, err := pgxpool.ParseConfig(os.Args[4])
	check(err)
	config.MaxConns = int32(number(os.Args[2]))
	pool, err := pgxpool.ConnectConfig(context.Background(), config)
	check(err)

	var phase int32
	var all, measured int64
	var group sync.WaitGroup
	for i := 0; i < int(number(os.Args[1])); i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			borrow(pool, &phase, &all, &measured)
		}()
	}
	time.Sleep(seconds / 5)
	start := time.Now()
	atomic.StoreInt32(&phase, measure)
	time.Sleep(seconds)
	atomic.StoreInt32(&phase, end)
	group.Wait()
	took := time.Since(start).Seconds()
	pool.Close()
	fmt.Printf("{\"operations\": %d, \"measured\": %d, \"seconds\": %f, \"per_second\": %f}\n",
		all, measured, took, float64(measured)/took)
}
