// Made by `npm run types` from openapi.json. Do not edit.

export interface paths {
    "/api/v1/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Figures for Prometheus. */
        get: operations["get_metrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This description. */
        get: operations["get_openapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/peers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The other nodes of the session. */
        get: operations["get_peers"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/peers/{peer_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Changes my own mix of another node; nobody else hears it. */
        put: operations["put_peer"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/project": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The whole shared project. */
        get: operations["get_project"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /** Edits the project, all commands or none. */
        patch: operations["patch_project"];
        trace?: never;
    };
    "/api/v1/project/{address}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** One node of the project's tree. */
        get: operations["get_project_node"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This node: audio, Link, session and project. */
        get: operations["get_status"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/transport": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The common beat and position. */
        get: operations["get_playback"];
        /** Starts, stops, locates, changes tempo or time signature, for everybody. */
        put: operations["put_playback"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/ws": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * What happens, as it happens, and the same commands.
         * @description A WebSocket of JSON text messages, `ClientMessage` in and `ServerMessage` out. The token comes as `Authorization` header,
         *     as `?ticket=` from `POST /api/v1/ws-ticket`, or as first message `{"type":"auth","token":"…"}` within 5 s. The server
         *     then says `ready`; `{"type":"subscribe","topics":["status","meters"]}` starts what is wanted.
         */
        get: operations["get_socket"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/ws-ticket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A key for one WebSocket, for clients that cannot send headers with it. */
        post: operations["post_ticket"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description The sound card and its stream. */
        Audio: {
            /**
             * Format: double
             * @description Longest callback of the last seconds.
             */
            callback_max_us: number;
            /** @description Name of the device or JACK client. */
            device: string;
            /** @description `alsa`, `jack`, `null` or `file`. */
            host: string;
            /**
             * Format: float
             * @description Highest input sample of the last moment, full scale being 0; -120 is silence.
             */
            input_peak_db: number;
            /**
             * Format: float
             * @description Highest output sample of the last moment, full scale being 0; -120 is silence.
             */
            output_peak_db: number;
            /**
             * Format: int32
             * @description Frames a callback.
             */
            period_frames: number;
            /**
             * Format: int32
             * @description Frames a second of the device.
             */
            rate_hz: number;
            /**
             * Format: int64
             * @description Callbacks the device missed since it was opened.
             */
            xruns: number;
        };
        /** @description One changed address. */
        Change: {
            /** @description The address. */
            address: string;
            /** @description What is there now; `null`: nothing any more. */
            value?: unknown;
        };
        /** @description What a client says, one JSON object a text message. */
        ClientMessage: {
            /** @description The bearer token. */
            token: string;
            /** @enum {string} */
            type: "auth";
        } | {
            /** @description Which. */
            topics: components["schemas"]["Topic"][];
            /** @enum {string} */
            type: "subscribe";
        } | {
            /** @description Which. */
            topics: components["schemas"]["Topic"][];
            /** @enum {string} */
            type: "unsubscribe";
        } | {
            /** @description The edits, applied all or none. */
            commands: components["schemas"]["Command"][];
            /** @description Comes back in the answer. */
            id?: unknown;
            /** @enum {string} */
            type: "patch";
            /** @description Whether to answer only once they are on disk. */
            wait?: components["schemas"]["Wait"];
        } | {
            /** @description What to change. */
            change: components["schemas"]["PlaybackChange"];
            /** @description Comes back in the answer. */
            id?: unknown;
            /** @enum {string} */
            type: "playback";
        };
        /** @description One edit of the project. */
        Command: {
            /** @description Which value, such as `/transport/tempo_bpm`. */
            address: string;
            /** @enum {string} */
            op: "set";
            /** @description The new value, within the range the registry gives. */
            value: unknown;
        } | {
            /** @description Which list, such as `/tracks`. */
            address: string;
            /** @enum {string} */
            op: "add";
            /** @description The new item. */
            value: unknown;
        } | {
            /** @description Which item. */
            address: string;
            /** @description The item it goes before; `null`: to the end. */
            before?: string | null;
            /** @enum {string} */
            op: "move";
        } | {
            /** @description Which item. */
            address: string;
            /** @enum {string} */
            op: "delete";
        };
        /** @description What one command did. */
        CommandResult: {
            /** @description The address of what was set, added, moved or deleted. */
            address: string;
        };
        /** @description The state of the shared project. */
        Doc: {
            /**
             * Format: int64
             * @description Changes in the project's history.
             */
            changes: number;
            /** @description Equal on two nodes exactly when their projects are equal. */
            heads_hash: string;
            /** @description Whether everything known is on this node's disk. */
            saved: boolean;
        };
        /** @description The level of one channel; -120 is silence. */
        Level: {
            /**
             * Format: float
             * @description Highest sample of the last moment, full scale being 0.
             */
            peak_db: number;
            /**
             * Format: float
             * @description Root mean square of the last moment, full scale being 0.
             */
            rms_db: number;
        };
        /** @description Ableton Link on this LAN, and the beat as every player has it. */
        Link: {
            /**
             * Format: double
             * @description Beats since the beat's origin at the moment of this answer.
             */
            beat: number;
            /** @description Whether Link is on. */
            enabled: boolean;
            /**
             * Format: int64
             * @description Other Link programs on this LAN.
             */
            peers: number;
            /**
             * Format: double
             * @description Beats since the bar began, from 0 to the beats of a bar.
             */
            phase: number;
            /** @description Whether playback runs. */
            playing: boolean;
            /**
             * Format: double
             * @description Tempo in beats a minute.
             */
            tempo_bpm: number;
        };
        /** @description One line of the node's log. */
        LogLine: {
            /** @description `error`, `warn`, `info` or `debug`. */
            level: string;
            /** @description What it says, on one line, control characters escaped. */
            message: string;
            /** @description The part of the program that speaks. */
            target: string;
            /**
             * Format: int64
             * @description Milliseconds since 1970-01-01 UTC.
             */
            time_ms: number;
        };
        /** @description Levels and the beat, many times a second. */
        Meters: {
            /**
             * Format: double
             * @description Beats since the beat's origin.
             */
            beat: number;
            /** @description What this player plays, one a channel. */
            input: components["schemas"]["Level"][];
            /** @description What this player hears, one a channel. */
            output: components["schemas"]["Level"][];
            /** @description What comes from the others. */
            peers: components["schemas"]["PeerLevel"][];
            /**
             * Format: double
             * @description Beats since the bar began.
             */
            phase: number;
            /** @description Whether playback runs. */
            playing: boolean;
            /**
             * Format: double
             * @description Tempo in beats a minute.
             */
            tempo_bpm: number;
        };
        /** @description Edits of the project, applied all or none. */
        PatchRequest: {
            /** @description The edits in order, 1 to 1000 of them. */
            commands: components["schemas"]["Command"][];
        };
        /** @description What `PATCH /project` did. */
        PatchResult: {
            /** @description Whether the edits are on disk. */
            durable: boolean;
            /** @description The project after the edits. */
            heads_hash: string;
            /** @description One for each command, in order. */
            results: components["schemas"]["CommandResult"][];
        };
        /**
         * @description The way packets take to another node.
         * @enum {string}
         */
        Path: "lan" | "direct" | "relayed" | "forwarded";
        /** @description Another node of the session. */
        Peer: {
            /** @description Its multiaddr in use; `null` while there is none. */
            address?: string | null;
            audio?: components["schemas"]["PeerAudio"] | null;
            clock?: components["schemas"]["PeerClock"] | null;
            /**
             * Format: float
             * @description Its gain in my own mix.
             */
            gain_db: number;
            /** @description Whether I muted it in my own mix. */
            muted_by_me: boolean;
            /** @description The name it gave itself: a stranger's text, escape it wherever it is shown. */
            name: string;
            path?: components["schemas"]["Path"] | null;
            /** @description Its identity in libp2p's text form. */
            peer_id: string;
            /**
             * Format: double
             * @description Round trip of the network.
             */
            rtt_ms?: number | null;
            /** @description How far it is. */
            state: components["schemas"]["PeerState"];
        };
        /** @description The audio stream from another node. Counters run since the stream began. */
        PeerAudio: {
            /**
             * Format: int64
             * @description Times the stream began anew: a gap, a restart, an overflow.
             */
            buffer_resets: number;
            /** @description `pcm16`, `pcm24` or `opus`. */
            codec: string;
            /**
             * Format: int64
             * @description Frames made up because the real ones were missing.
             */
            concealed_frames: number;
            /**
             * Format: double
             * @description Concealed frames over all frames played, from 0 to 1.
             */
            concealed_ratio: number;
            /**
             * Format: int32
             * @description Frames in one packet.
             */
            frame_frames: number;
            /**
             * Format: double
             * @description Interarrival jitter of RFC 3550.
             */
            jitter_ms: number;
            /**
             * Format: int64
             * @description Packets that came after their time.
             */
            late: number;
            /**
             * Format: int64
             * @description Packets that never came.
             */
            lost: number;
            /**
             * Format: double
             * @description Mouth to ear between the two engines, measured on the session clock; `null` until it is.
             */
            one_way_ms?: number | null;
            /**
             * Format: double
             * @description Time a packet waits here before it is played.
             */
            playout_delay_ms: number;
            /**
             * Format: int64
             * @description Packets that came.
             */
            received: number;
            /**
             * Format: int64
             * @description Packets won back by redundancy.
             */
            recovered: number;
        };
        /** @description My own mix of another node: nobody else hears it. */
        PeerChange: {
            /**
             * Format: float
             * @description New gain in my mix, from -60 to 12; absent: unchanged.
             */
            gain_db?: number | null;
            /** @description Whether I mute it in my mix; absent: unchanged. */
            muted_by_me?: boolean | null;
        };
        /** @description Another node's clock against ours. */
        PeerClock: {
            /**
             * Format: double
             * @description How fast the offset grows, in parts per million.
             */
            drift_ppm: number;
            /**
             * Format: double
             * @description The true offset lies within plus or minus this.
             */
            error_us: number;
            /**
             * Format: double
             * @description Its clock minus ours.
             */
            offset_us: number;
        };
        /** @description The level of another node, before my own gain. */
        PeerLevel: {
            /**
             * Format: float
             * @description Highest sample of the last moment, full scale being 0.
             */
            peak_db: number;
            /** @description Whose. */
            peer_id: string;
            /**
             * Format: float
             * @description Root mean square of the last moment, full scale being 0.
             */
            rms_db: number;
        };
        /**
         * @description How far another node is.
         * @enum {string}
         */
        PeerState: "connecting" | "connected" | "away";
        /** @description The common beat and position. */
        Playback: {
            /** @description Whether the metronome clicks, in my own ears only. */
            metronome: boolean;
            /**
             * Format: double
             * @description Beats since the bar began.
             */
            phase_beats: number;
            /** @description Whether playback runs. */
            playing: boolean;
            /**
             * Format: double
             * @description Position in beats since the start of the song at the moment of this answer.
             */
            position_beats: number;
            /**
             * Format: double
             * @description Tempo in beats a minute.
             */
            tempo_bpm: number;
            /**
             * @description Beats of a bar and the note that is one beat, such as `4/4`.
             * @example 4/4
             */
            time_signature: string;
        };
        /** @description A change of the beat or position, or of my metronome; what is absent stays. */
        PlaybackChange: {
            /** @description Whether the metronome clicks, in my own ears only. */
            metronome?: boolean | null;
            /** @description `true` starts, `false` stops. */
            playing?: boolean | null;
            /**
             * Format: double
             * @description New position in beats since the start of the song.
             */
            position_beats?: number | null;
            /**
             * Format: double
             * @description New tempo in beats a minute, from 20 to 999.
             */
            tempo_bpm?: number | null;
            /** @description New time signature, such as `3/4`. */
            time_signature?: string | null;
        };
        /** @description A problem document. */
        Problem: {
            /**
             * @description The stable word for this kind of error.
             * @example bad_json
             */
            code: string;
            /** @description What is wrong and what to do. */
            detail: string;
            /**
             * Format: int32
             * @description The HTTP status.
             */
            status: number;
            /** @description The phrase of the HTTP status. */
            title: string;
            /**
             * @description Always `about:blank`.
             * @example about:blank
             */
            type: string;
        };
        /** @description What the server says, one JSON object a text message. */
        ServerMessage: {
            /** @enum {string} */
            type: "ready";
        } | {
            /** @description All of them. */
            topics: components["schemas"]["Topic"][];
            /** @enum {string} */
            type: "subscribed";
        } | {
            /** @description As `GET /status`. */
            data: components["schemas"]["Status"];
            /** @enum {string} */
            type: "status";
        } | {
            /** @description One moment. */
            data: components["schemas"]["Meters"];
            /** @enum {string} */
            type: "meters";
        } | {
            /** @description As `GET /peers`. */
            data: components["schemas"]["Peer"][];
            /** @enum {string} */
            type: "peers";
        } | {
            /** @description As `GET /transport`. */
            data: components["schemas"]["Playback"];
            /** @enum {string} */
            type: "playback";
        } | {
            /** @description As `GET /project`. */
            data: unknown;
            /** @enum {string} */
            type: "project";
        } | {
            /** @description The addresses with what is there now. */
            changes: components["schemas"]["Change"][];
            /** @enum {string} */
            type: "project_changed";
        } | {
            /** @description In order. */
            lines: components["schemas"]["LogLine"][];
            /**
             * Format: int64
             * @description Lines before these that this reader was too slow for.
             */
            missed: number;
            /** @enum {string} */
            type: "log";
        } | {
            /** @description As `PATCH /project`. */
            data: components["schemas"]["PatchResult"];
            /** @description As in the command. */
            id?: unknown;
            /** @enum {string} */
            type: "patched";
        } | {
            /** @description The common beat and position now. */
            data: components["schemas"]["Playback"];
            /** @description As in the command. */
            id?: unknown;
            /** @enum {string} */
            type: "playback_set";
        } | {
            /** @description As in the command. */
            id?: unknown;
            /** @description What is wrong and what to do. */
            problem: components["schemas"]["Problem"];
            /** @enum {string} */
            type: "error";
        };
        /** @description A session: the nodes that play together. */
        Session: {
            /** @description Equal on all nodes of the session. */
            id: string;
            /** @description The name given by `--session`. */
            name: string;
        };
        /** @description This node: who it is, what it plays on, the beat and the project. */
        Status: {
            /** @description The sound card and its stream. */
            audio: components["schemas"]["Audio"];
            /** @description The shared project. */
            doc: components["schemas"]["Doc"];
            /** @description Ableton Link on this LAN. */
            link: components["schemas"]["Link"];
            /** @description Addresses other nodes can dial, as multiaddrs. */
            listen: string[];
            /** @description The player's name. */
            name: string;
            /** @description The node's identity in libp2p's text form. */
            peer_id: string;
            /** @description The session the node is in. */
            session: components["schemas"]["Session"];
            /**
             * Format: double
             * @description Seconds since the node started.
             */
            uptime_s: number;
            /** @description Version of the program. */
            version: string;
            /** @description What the player should know now, one sentence each that says what to do; empty when all is well. */
            warnings: string[];
        };
        /** @description A key for opening one WebSocket. */
        Ticket: {
            /**
             * Format: int64
             * @description Seconds it stays good.
             */
            expires_in_s: number;
            /** @description Goes into `/api/v1/ws?ticket=…`; works once. */
            ticket: string;
        };
        /**
         * @description What can be subscribed to.
         * @enum {string}
         */
        Topic: "status" | "meters" | "peers" | "playback" | "project" | "log";
        /**
         * @description When a `patch` is answered.
         * @enum {string}
         */
        Wait: "disk" | "none";
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    get_metrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OpenMetrics text */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/openmetrics-text; version=1.0.0; charset=utf-8": string;
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_openapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OpenAPI 3.1 */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_peers: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The others now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Peer"][];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_peer: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The other node's `peer_id` */
                peer_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PeerChange"];
            };
        };
        responses: {
            /** @description The other node with my mix of it */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Peer"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_project: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The tree whose nodes have the addresses that `PATCH` takes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    patch_project: {
        parameters: {
            query?: {
                /** @description `disk` (default) answers once the edits are on disk, `none` at once with `durable: false` */
                wait?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PatchRequest"];
            };
        };
        responses: {
            /** @description The edits are applied */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PatchResult"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_project_node: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description An address without its first slash, such as `transport/tempo_bpm` */
                address: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What is at the address */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_status: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description This node now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Status"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_playback: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The beat and position now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Playback"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_playback: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PlaybackChange"];
            };
        };
        responses: {
            /** @description The beat and position after the change */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Playback"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_socket: {
        parameters: {
            query?: {
                /** @description From `POST /api/v1/ws-ticket`; works once */
                ticket?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The WebSocket is open */
            101: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_ticket: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A ticket */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Ticket"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}
