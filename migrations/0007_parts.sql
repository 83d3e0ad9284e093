ALTER TABLE `runs` ADD `part` text;--> statement-breakpoint
CREATE UNIQUE INDEX `runs_part` ON `runs` (`parent`,`part`);