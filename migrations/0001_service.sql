CREATE TABLE `files` (
	`id` text PRIMARY KEY NOT NULL,
	`filename` text NOT NULL,
	`purpose` text NOT NULL,
	`bytes` integer NOT NULL,
	`sha256` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `idempotency` (
	`key` text PRIMARY KEY NOT NULL,
	`request_hash` text NOT NULL,
	`status` integer,
	`reply` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `judges` (
	`id` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`model` text NOT NULL,
	`base_url` text,
	`api_key_env` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `models` (
	`id` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`base` text NOT NULL,
	`adapters` text NOT NULL,
	`axis` text,
	`run` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `preferences` (
	`id` text PRIMARY KEY NOT NULL,
	`axis` text NOT NULL,
	`prompt` text NOT NULL,
	`chosen` text NOT NULL,
	`rejected` text NOT NULL,
	`strength` text,
	`probability` real,
	`chosen_safe` integer,
	`rejected_safe` integer,
	`source` text NOT NULL,
	`run` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `preferences_axis` ON `preferences` (`axis`,`created_at`);--> statement-breakpoint
CREATE TABLE `roles` (
	`role` text PRIMARY KEY NOT NULL,
	`model` text NOT NULL,
	FOREIGN KEY (`model`) REFERENCES `models`(`id`) ON UPDATE no action ON DELETE no action
);
